/* The tensors of a step that are made orthonormal, as matrices: which they are, and who works on them where. */
#ifndef FASTGD_MATRIX_H
#define FASTGD_MATRIX_H

#include "fastgd.h"
#include "parallel.h"

/* Working memory for one matrix: two like it; of (m, m) each, m its smaller side, Gram matrices and polynomials of
 * them; sums of squares, one for each chunk. */
enum { FGD_N_GRAMS = 3 };

typedef struct {
    void *x, *y, *grams[FGD_N_GRAMS];
    double *sums;
} fgd_desk;

/* One of the `all` threads that work on a matrix together. */
struct fgd_mate {
    fgd_desk desk; /* the same for all */
    void *panel;   /* its own: of a factor of a product */
    fgd_atomic *arrived;
    long long rounds; /* how often they have waited for each other */
    int me, all;
};

static inline void fgd_wait_for_mates(fgd_mate *mate)
{
    if (mate->all == 1) return;
    const long long wanted = ++mate->rounds * mate->all;
    (void)FGD_ADD(*mate->arrived, 1);
    for (int spins = 0; FGD_GET(*mate->arrived) < wanted;) fgd_wait_a_little(&spins);
}

typedef struct {
    ptrdiff_t tensor, first_sum;
    double work;
} fgd_matrix;

typedef struct {
    fgd_matrix *list;      /* largest first, */
    ptrdiff_t n, n_shared; /* of which so many are so large that all threads work on each together, */
    double work;           /* multiplications in all */
    char *desks;
    size_t desk_size;
    fgd_atomic taken, arrived;
} fgd_matrices;

/* Is this one of them? */
int fgd_is_made_orthonormal(const fgd_tensor *t, const fgd_plan *plan);
/* Finds the matrices of a step; `room` is that of fgd_matrix_room(). */
void fgd_find_matrices(fgd_matrices *matrices, const fgd_tensor *tensors, const fgd_plan *plans, void *room,
                       ptrdiff_t n_tensors);
void fgd_share_matrices(fgd_matrices *matrices, int all);
/* Does what a step does to them; the others have nothing to do with them. `sums` are those of the step. */
void fgd_update_matrices(fgd_matrices *matrices, const fgd_tensor *tensors, const fgd_plan *plans, const fgd_pass *pass,
                         double *sums, int me, int all);

#endif
