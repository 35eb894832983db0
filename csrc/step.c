/* One step of an optimizer over a list of tensors and threads:
 * plan -> norm and guard -> clip factor -> (units of gradients) -> (moments of rows and columns, measures: for rules
 * that need them) -> (matrices) -> update.
 *
 * The list is cut into chunks that depend on the tensors alone. Each thread takes neighbouring chunks, the same in both
 * passes, so that the gradients of the second are still in its caches; sums over chunks are added in order. Nothing of
 * the caller's is written to before the gradients are known to be good. */
#include "step.h"

#include "chunks.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

static ptrdiff_t n_matrices(const fgd_tensor *t) { return t->rows ? t->size / (t->rows * t->columns) : 0; }

static ptrdiff_t n_chunk_sums(const fgd_tensor *tensors, ptrdiff_t n_tensors)
{
    ptrdiff_t n = 0;
    for (ptrdiff_t i = 0; i < n_tensors; i++) n += 2 * fgd_n_chunks(tensors[i].size);
    return n;
}

static int has_units(const fgd_options *options) { return options->centralize || options->agc < INFINITY; }

ptrdiff_t fgd_n_sums(const fgd_tensor *tensors, const fgd_options *options, ptrdiff_t n_tensors)
{
    ptrdiff_t n = n_chunk_sums(tensors, n_tensors);
    for (ptrdiff_t i = 0; has_units(options) && i < n_tensors; i++) n += 2 * tensors[i].n_units;
    for (ptrdiff_t i = 0; i < n_tensors; i++) n += n_matrices(tensors + i);
    return n;
}

/* ------------------------------------------------------------------------------------------------------- plan */

static int is_first(const fgd_tensor *t) { return t->t == t->since; }

static int alike(const fgd_tensor *a, const fgd_tensor *b)
{
    return a->group == b->group && a->dtype == b->dtype && a->t == b->t && is_first(a) == is_first(b) &&
           !a->rows == !b->rows && memcmp(a->kept, b->kept, sizeof a->kept) == 0;
}

/* Is the hyper-parameter that a state is kept for zero? */
static int pauses(const fgd_rule_info *rule, int state, const double *hypers)
{
    if (state >= rule->n_states) return 0;
    for (int k = 0; k < rule->n_hypers; k++)
        if (strcmp(rule->hypers[k].name, rule->states[state].kept_if) == 0) return hypers[k] == 0;
    return 0; /* kept always */
}

/* The user's own rules treat each element by itself, and keep all of their states. */
static const fgd_rule_info own_rule = {.name = "own", .kind = FGD_ELEMENTWISE};

static const fgd_rule_info *rule_of(const fgd_group *group)
{
    return group->rule < 0 ? &own_rule : &fgd_rules[group->rule];
}

/* What a LISTWISE rule keeps is the same for all its tensors, and known to those that have taken a step. */
static int is_listed(const fgd_tensor *t, const fgd_group *groups)
{
    return rule_of(groups + t->group)->kind == FGD_LISTWISE;
}

static void find_known(fgd_step_job *job, const fgd_group *groups)
{
    for (ptrdiff_t i = 0; i < job->n_tensors && !job->known; i++) {
        const fgd_tensor *t = job->tensors + i;
        if (t->t > 0 && is_listed(t, groups)) job->known = t;
    }
}

static int measures(int kind) { return kind > FGD_CODED && kind < FGD_MATRIX; }

/* Finds or makes the plan of every tensor that takes part. */
static void make_plans(fgd_step_job *job)
{
    const fgd_group *groups = job->groups;
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) {
        fgd_tensor *t = job->tensors + i;
        if (!t->grad) continue;
        for (t->plan = job->n_plans - 1; t->plan >= 0 && !alike(job->plans[t->plan].like, t);) t->plan--;
        if (t->plan >= 0) continue;
        t->plan = job->n_plans++;
        fgd_plan *plan = job->plans + t->plan;
        plan->like = t;
        plan->rule = groups[t->group].rule;
        plan->kind = rule_of(groups + t->group)->kind;
        job->measures |= measures(plan->kind);
        const int listed = plan->kind == FGD_LISTWISE;
        if (listed && !job->leader) job->leader = plan;
        plan->iteration = (fgd_iteration){0};
        if (plan->kind >= FGD_MATRIX)
            plan->iteration = fgd_active->dtype[t->dtype]->iteration[plan->rule](job->groups[t->group].hypers);
        for (int k = 0; k < FGD_MAX_STATES; k++)
            plan->pauses[k] = pauses(rule_of(groups + t->group), k, groups[t->group].hypers);
        memcpy(plan->kept, listed && job->known ? job->known->kept : t->kept, sizeof t->kept);
        plan->kept[FGD_MAX_KEPT] = 0;
        plan->lower = groups[t->group].lower;
        plan->upper = groups[t->group].upper;
        plan->bounded = plan->lower > -INFINITY || plan->upper < INFINITY;
        plan->averages_wait = groups[t->group].averages_wait;
        plan->own = plan->rule < 0 ? groups[t->group].own[t->dtype] : NULL;
        plan->hypers = groups[t->group].hypers;
        plan->t = t->t + 1;
        if (plan->own) continue;
        fgd_active->dtype[t->dtype]->prepare[plan->rule](&plan->coef, plan->kept, plan->hypers, plan->t, is_first(t));
        plan->fold = plan->coef;
        if (t->rows) fgd_active->dtype[t->dtype]->take_matrices[plan->rule](&plan->coef);
        job->folds |= t->rows != 0;
    }
}

static void keep(fgd_step_job *job, const fgd_group *groups)
{
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) {
        fgd_tensor *t = job->tensors + i;
        if (t->grad) memcpy(t->kept, job->plans[t->plan].kept, sizeof t->kept);
        if (t->grad) t->t++;
        if (t->t > 0 && job->leader && is_listed(t, groups)) memcpy(t->kept, job->leader->kept, sizeof t->kept);
    }
}

/* ------------------------------------------------------------------------------------------------ both passes */

enum { GRADS = 0, ALL = 1 }; /* a pass over the gradients, over all that the step changes */

/* How many elements of a tensor a pass visits. Where the gradient has some rows, the others are visited for the sake of
 * averages and slow weights alone. */
static ptrdiff_t size_in(const fgd_step_job *job, const fgd_tensor *t, int pass)
{
    return t->index && !(pass == ALL && fgd_needs_all(t, &job->pass)) ? t->n_index * t->row : t->size;
}

typedef struct {
    int me, all;
} fgd_share;

/* where thread `me` of `all` begins */
static ptrdiff_t share(const fgd_step_job *job, int pass, int me, int all)
{
    return me == all ? job->total[pass] : (ptrdiff_t)((double)job->total[pass] * me / all);
}

static void square_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sum)
{
    (void)job;
    const fgd_typed_kernels *kernels = fgd_active->dtype[t->dtype];
    const char *grad = t->grad;
    *sum = !grad    ? 0
           : t->low ? kernels->squares_low(t, first, n)
                    : kernels->sum_squares(grad + (size_t)first * fgd_element_size(t->dtype), n);
}

static void measure_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sums)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[t->dtype];
    if (t->grad && measures(job->plans[t->plan].kind))
        (t->low ? kernels->measure_low : kernels->measure)(sums, t, job->plans + t->plan, &job->pass, first, n);
}

static void fold_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sums)
{
    (void)sums;
    if (t->grad && t->rows) fgd_active->dtype[t->dtype]->fold(t, job->plans + t->plan, &job->pass, first, n);
}

static void mean_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sums)
{
    (void)job, (void)sums;
    if (t->grad && t->rows) fgd_active->dtype[t->dtype]->mean(t, first, n);
}

static void update_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sum)
{
    if (!t->grad && !(t->average && job->pass.average_weight != 0)) return;
    const fgd_plan *plan = t->grad ? job->plans + t->plan : NULL;
    if (plan && fgd_is_made_orthonormal(t, plan)) return; /* done by fgd_update_matrices() */
    const fgd_typed_kernels *kernels = fgd_active->dtype[t->dtype];
    const double square = (t->low ? kernels->update_low : kernels->update)(t, plan, &job->pass, first, n);
    if (job->pass.norms) *sum = square;
}

static void average_chunk(fgd_step_job *job, const fgd_tensor *t, ptrdiff_t first, ptrdiff_t n, double *sum)
{
    (void)sum;
    if (t->grad && t->average && job->groups[t->group].averages_wait)
        (void)fgd_active->dtype[t->dtype]->update(t, NULL, &job->pass, first, n);
}

/* Does `work` on the chunks of one thread's share of the list, as if its tensors lay end to end. */
static void for_chunks(fgd_step_job *job, int pass, fgd_share mine, ptrdiff_t length,
                       void (*work)(fgd_step_job *, const fgd_tensor *, ptrdiff_t, ptrdiff_t, double *))
{
    const ptrdiff_t first = share(job, pass, mine.me, mine.all), end = share(job, pass, mine.me + 1, mine.all);
    ptrdiff_t before = 0;
    double *sums = job->sums;
    for (ptrdiff_t i = 0; i < job->n_tensors && before < end; i++) {
        const fgd_tensor *t = job->tensors + i;
        const ptrdiff_t size = size_in(job, t, pass);
        const ptrdiff_t a = first > before ? fgd_n_chunks(first - before) * FGD_STEP_CHUNK : 0;
        const ptrdiff_t b = end - before < size ? fgd_n_chunks(end - before) * FGD_STEP_CHUNK : size;
        const ptrdiff_t stop = b < size ? b : size;
        for (ptrdiff_t at = a; at < stop; at += length)
            work(job, t, at, stop - at < length ? stop - at : length, sums + at / FGD_STEP_CHUNK * 2);
        before += size;
        sums += 2 * fgd_n_chunks(size);
    }
}

/* ------------------------------------------------------------------------------------------- between the passes */

static double total_of(const fgd_step_job *job, int pass)
{
    ptrdiff_t n = 0;
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) n += fgd_n_chunks(size_in(job, job->tensors + i, pass));
    double total = 0;
    for (ptrdiff_t k = 0; k < n; k++) total += job->sums[2 * k];
    return total;
}

/* The first tensor whose gradient is not finite. Squares of finite numbers may overflow in float64. */
static ptrdiff_t find_not_finite(const fgd_step_job *job)
{
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) {
        const fgd_tensor *t = job->tensors + i;
        const fgd_typed_kernels *kernels = fgd_active->dtype[t->dtype];
        if (t->grad && !(t->low ? kernels->finite_low(t) : kernels->all_finite(t->grad, size_in(job, t, GRADS))))
            return i;
    }
    return -1;
}

/* What the norm of the gradients means for the update. */
static void decide(fgd_step_job *job)
{
    const fgd_options *o = job->options;
    double clip = 1;
    if (job->needs_norm) {
        const double norm = sqrt(total_of(job, GRADS));
        job->report->grad_norm = norm / o->grad_scale;
        if (o->guard && !(norm - norm == 0) && (job->report->failed = find_not_finite(job)) >= 0) {
            job->status = FGD_NOT_FINITE;
            return;
        }
        const double wanted = o->max_norm / (job->report->grad_norm + 1e-6); /* as torch's clip_grad_norm_ */
        if (o->max_norm < INFINITY && !(wanted >= 1)) clip = wanted;
    }
    job->report->clip_factor = clip;
    job->pass.factor = clip / o->grad_scale;
    job->pass.changes_grad = job->pass.factor != 1 || job->pass.units || o->clip_value < INFINITY;
}

/* Measures the units that begin at the elements [first, end) of the list, if the elements of each lay together. */
static void measure_units(fgd_step_job *job, ptrdiff_t first, ptrdiff_t end)
{
    ptrdiff_t before = 0;
    double *by_unit = job->sums + n_chunk_sums(job->tensors, job->n_tensors);
    for (ptrdiff_t i = 0; i < job->n_tensors && before < end; i++) {
        fgd_tensor *t = job->tensors + i;
        const ptrdiff_t n = t->grad && t->size ? t->n_units : 0, length = n ? t->size / n : 1;
        const ptrdiff_t a = first > before ? (first - before + length - 1) / length : 0;
        const ptrdiff_t b = (end - before + length - 1) / length, stop = b < n ? b : n;
        for (ptrdiff_t unit = a; unit < stop; unit++)
            fgd_active->dtype[t->dtype]->measure_unit(by_unit + 2 * unit, t, &job->pass, unit);
        before += t->size;
        by_unit += 2 * t->n_units;
    }
}

/* Tells each tensor where its units' measures are. */
static void hand_out_units(fgd_step_job *job)
{
    double *by_unit = job->sums + n_chunk_sums(job->tensors, job->n_tensors);
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) {
        job->tensors[i].by_unit = by_unit;
        by_unit += 2 * job->tensors[i].n_units;
    }
}

/* Gives each tensor the last room for the means of its matrices. */
static void hand_out_means(fgd_step_job *job)
{
    double *means = job->sums + fgd_n_sums(job->tensors, job->options, job->n_tensors);
    for (ptrdiff_t i = job->n_tensors - 1; i >= 0; i--) job->tensors[i].means = means -= n_matrices(job->tensors + i);
}

/* Adds up the measures of each tensor, and of all whose rule is LISTWISE. */
static void add_measures(fgd_step_job *job)
{
    const double *sums = job->sums;
    for (ptrdiff_t i = 0; i < job->n_tensors; i++) {
        fgd_tensor *t = job->tensors + i;
        t->measured[0] = t->measured[1] = 0;
        t->measured[2] = (double)t->size;
        const int kind = t->grad ? job->plans[t->plan].kind : FGD_ELEMENTWISE;
        for (ptrdiff_t c = 0; c < fgd_n_chunks(t->size); c++, sums += 2)
            if (measures(kind)) t->measured[0] += sums[0], t->measured[1] += sums[1];
        if (kind == FGD_LISTWISE) job->listed[0] += t->measured[0], job->listed[1] += t->measured[1];
    }
    for (fgd_plan *plan = job->plans; plan < job->plans + job->n_plans; plan++)
        if (plan->kind == FGD_LISTWISE)
            fgd_active->dtype[plan->like->dtype]->adjust[plan->rule](&plan->coef, plan->kept, job->listed);
}

/* --------------------------------------------------------------------------------------------------- the threads */

/* Waits for all; what lies between two passes is done by the last to arrive. */
static void between(fgd_step_job *job, fgd_atomic *arrived, int all, void (*todo)(fgd_step_job *))
{
    if (FGD_ADD(*arrived, 1) + 1 == all) {
        todo(job);
        (void)FGD_ADD(*arrived, 1);
    } else {
        for (int spins = 0; FGD_GET(*arrived) <= all;) fgd_wait_a_little(&spins);
    }
}

static void nothing(fgd_step_job *job) { (void)job; }

void fgd_work_on_step(fgd_step_job *job, int me, int all)
{
    const fgd_share mine = {me, all};
    if (job->needs_norm) {
        for_chunks(job, GRADS, mine, FGD_STEP_CHUNK, square_chunk);
        between(job, &job->squared, all, decide);
    }
    if (job->status == FGD_OK && job->pass.units) {
        measure_units(job, share(job, ALL, me, all), share(job, ALL, me + 1, all));
        between(job, &job->united, all, hand_out_units);
    }
    if (job->status == FGD_OK && job->folds) {
        for_chunks(job, ALL, mine, job->total[ALL], fold_chunk);
        between(job, &job->folded, all, nothing);
        for_chunks(job, ALL, mine, job->total[ALL], mean_chunk);
        between(job, &job->meant, all, nothing);
    }
    if (job->status == FGD_OK && job->measures) {
        for_chunks(job, ALL, mine, FGD_STEP_CHUNK, measure_chunk);
        between(job, &job->measured, all, add_measures);
    }
    if (job->status == FGD_OK && job->matrices.n > 0)
        fgd_update_matrices(&job->matrices, job->tensors, job->plans, &job->pass, job->sums, me, all);
    if (job->status == FGD_OK)
        for_chunks(job, ALL, mine, job->pass.norms ? FGD_STEP_CHUNK : job->total[ALL], update_chunk);
    fgd_meet(&job->left, all);
}

void fgd_open_step(fgd_step_job *job, fgd_report *report, fgd_tensor *tensors, fgd_plan *plans, double *sums,
                   void *room, const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors)
{
    *job = (fgd_step_job){.tensors = tensors,
                          .n_tensors = n_tensors,
                          .groups = groups,
                          .options = options,
                          .plans = plans,
                          .sums = sums,
                          .report = report,
                          .status = FGD_OK};
    *report = (fgd_report){NAN, 1, NAN, -1};
    hand_out_means(job);
    job->needs_norm = options->guard || options->norms || options->max_norm < INFINITY;
    job->pass = (fgd_pass){.agc = options->agc,
                           .clip_value = options->clip_value,
                           .units = has_units(options),
                           .centralize = options->centralize,
                           .slow_weight = options->slow_weight,
                           .looks_ahead = options->looks_ahead,
                           .average_weight = options->average_weight,
                           .zero_grads = options->zero_grads,
                           .norms = options->norms,
                           .step = options->step};
    find_known(job, groups);
    make_plans(job);
    for (int pass = GRADS; pass <= ALL; pass++)
        for (ptrdiff_t i = 0; i < n_tensors; i++) job->total[pass] += size_in(job, tensors + i, pass);
    fgd_find_matrices(&job->matrices, tensors, plans, room, n_tensors);
    if (!job->needs_norm) decide(job);
}

fgd_status fgd_close_step(fgd_step_job *job)
{
    if (job->status != FGD_OK) return job->status;
    if (job->options->norms) job->report->update_norm = sqrt(total_of(job, ALL));
    keep(job, job->groups);
    return FGD_OK;
}

fgd_status fgd_step(fgd_report *report, fgd_tensor *tensors, fgd_plan *plans, double *sums, void *room,
                    const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors, int threads)
{
    fgd_step_job job;
    fgd_open_step(&job, report, tensors, plans, sums, room, groups, options, n_tensors);
    const double size = (double)job.total[ALL] + job.matrices.work / FGD_PRODUCTS_PER_ELEMENT;
    const int team = fgd_team(threads, size, FGD_SERIAL_STEP);
    fgd_share_matrices(&job.matrices, team);
    if (team > 1) {
        FGD_PARALLEL(team)
        fgd_work_on_step(&job, FGD_THREAD, FGD_TEAM);
    } else {
        fgd_work_on_step(&job, 0, 1);
    }
    return fgd_close_step(&job);
}

static void work_on_averages(fgd_step_job *job, int me, int all)
{
    const fgd_share mine = {me, all};
    for_chunks(job, ALL, mine, job->total[ALL], average_chunk);
    fgd_meet(&job->left, all);
}

void fgd_average(fgd_tensor *tensors, const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors,
                 int threads)
{
    fgd_step_job job = {.tensors = tensors,
                        .n_tensors = n_tensors,
                        .groups = groups,
                        .options = options,
                        .pass = {.average_weight = options->average_weight}};
    for (ptrdiff_t i = 0; i < n_tensors; i++) job.total[ALL] += size_in(&job, tensors + i, ALL);
    const int team = fgd_team(threads, (double)job.total[ALL], FGD_SERIAL_STEP);
    if (team > 1) {
        FGD_PARALLEL(team)
        work_on_averages(&job, FGD_THREAD, FGD_TEAM);
    } else {
        work_on_averages(&job, 0, 1);
    }
}
