/* What the rows of optim_rules.h and loss_rules.h say, without their formulas: numbers and hyper-parameter structs. */
#ifndef FASTGD_RULES_H
#define FASTGD_RULES_H

#include "loss_rules.h"
#include "optim_rules.h"

#define FGD_NONE(...)

/* a rule's number is its row: FGD_RULE_sgd, ... */
enum {
#define RULE(name, states, hypers) FGD_RULE_##name,
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

/* its hyper-parameters by name, in the order of the row: struct sgd_hypers { double lr, momentum, ...; } */
#define RULE(name, states, hypers)                                                                                     \
    typedef struct {                                                                                                   \
        hypers                                                                                                         \
    } name##_hypers;
#define HYPERS(...) __VA_ARGS__
#define H(name, value, domain) double name;
FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, HYPERS, H)
#undef RULE
#undef HYPERS
#undef H

#endif
