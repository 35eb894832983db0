/* What the rows of optim_rules.h and loss_rules.h say, without their formulas: numbers and structs. */
#ifndef FASTGD_RULES_H
#define FASTGD_RULES_H

#include "activation_rules.h"
#include "loss_rules.h"
#include "optim_rules.h"

#define FGD_NONE(...)
#define FGD_ALL(...) __VA_ARGS__

/* a rule's number is its row: FGD_RULE_sgd, ... */
enum {
#define RULE(name, formula, kind, states, kept, hypers) FGD_RULE_##name,
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
        FGD_ONLINE_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

/* its hyper-parameters and what it carries from step to step, by name, in the order of the row:
 * struct sgd_hypers { double lr, momentum, ...; } and sgd_kept */
#define RULE(name, formula, kind, states, kept, hypers)                                                                \
    typedef struct {                                                                                                   \
        hypers                                                                                                         \
    } name##_hypers;                                                                                                   \
    typedef struct {                                                                                                   \
        kept double end; /* C wants at least one member */                                                             \
    } name##_kept;
#define NUMBER(name) double name;
#define H(name, value, domain) double name;
FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_ALL, NUMBER, FGD_ALL, H)
FGD_ONLINE_RULES(RULE, FGD_NONE, FGD_NONE, FGD_ALL, NUMBER, FGD_ALL, H)
#undef RULE
#undef NUMBER
#undef H

#endif
