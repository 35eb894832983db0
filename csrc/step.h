/* One step of an optimizer, in parts: for whoever has a team of threads at work already. */
#ifndef FASTGD_STEP_H
#define FASTGD_STEP_H

#include "matrix.h"

typedef struct {
    fgd_tensor *tensors;
    ptrdiff_t n_tensors, total[2];
    const fgd_group *groups;
    const fgd_options *options;
    fgd_plan *plans;
    double *sums; /* two for each chunk, in order, then two for each unit, then the means of matrices */
    fgd_report *report;
    fgd_pass pass;
    fgd_matrices matrices;
    int needs_norm, measures, folds;
    ptrdiff_t n_plans;
    double listed[2];        /* the measures of all tensors together, */
    const fgd_tensor *known; /* one of those whose rule is LISTWISE, if any has taken a step, */
    const fgd_plan *leader;  /* and what they all keep afterwards */
    fgd_status status;
    fgd_atomic squared, united, folded, meant, measured, left;
} fgd_step_job;

/* By one thread: what a step needs to know. Then, by each of a team, the step itself, after fgd_share_matrices() for
 * that team; and by one again what is kept of it, unless a gradient is not finite. Arguments as of fgd_step(). */
void fgd_open_step(fgd_step_job *job, fgd_report *report, fgd_tensor *tensors, fgd_plan *plans, double *sums,
                   void *room, const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors);
void fgd_work_on_step(fgd_step_job *job, int me, int all);
fgd_status fgd_close_step(fgd_step_job *job);

#endif
