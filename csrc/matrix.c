/* What a step does to the matrices among its tensors, over threads: direction -> orthonormal -> update.
 *
 * Each thread takes the largest matrix that is left. Only where one of them is more than a thread's share of all the
 * work do the threads share its rows; the bits are the same either way. */
#include "chunks.h"
#include "matrix.h"

#include <stdlib.h>
#include <string.h>

static size_t whole_lines(size_t bytes) { return (bytes + FGD_LANE_BYTES - 1) / FGD_LANE_BYTES * FGD_LANE_BYTES; }

static int is_matrix(const fgd_tensor *t) { return t->outer > 0 && t->size > 0; }

int fgd_is_made_orthonormal(const fgd_tensor *t, const fgd_plan *plan)
{
    return plan->iteration.wanted && is_matrix(t);
}

static ptrdiff_t smaller_side(const fgd_tensor *t)
{
    const ptrdiff_t columns = t->size / t->outer;
    return t->outer < columns ? t->outer : columns;
}

/* --------------------------------------------------------------------------------------------------- memory */

static size_t gram_size(const fgd_tensor *t)
{
    const ptrdiff_t m = smaller_side(t);
    return whole_lines((size_t)(m * m) * fgd_element_size(t->dtype));
}

static size_t desk_size(const fgd_tensor *t)
{
    return FGD_PANEL_BYTES + 2 * whole_lines((size_t)t->size * fgd_element_size(t->dtype)) +
           FGD_N_GRAMS * gram_size(t) + whole_lines((size_t)fgd_n_chunks(t->size) * sizeof(double));
}

static void lay_desk(fgd_desk *desk, char *memory, const fgd_tensor *t)
{
    char *at = memory + FGD_PANEL_BYTES;
    const size_t size = whole_lines((size_t)t->size * fgd_element_size(t->dtype));
    desk->x = at, at += size;
    desk->y = at, at += size;
    for (int k = 0; k < FGD_N_GRAMS; k++) desk->grams[k] = at, at += gram_size(t);
    desk->sums = (double *)at;
}

int fgd_wants_matrices(const fgd_group *group, int dtype)
{
    if (group->rule < 0 || fgd_rules[group->rule].kind < FGD_MATRIX) return 0;
    return fgd_active->dtype[dtype]->iteration[group->rule](group->hypers).wanted;
}

size_t fgd_matrix_room(const fgd_tensor *tensors, const fgd_group *groups, ptrdiff_t n_tensors, int threads)
{
    size_t n = 0, largest = 0;
    for (ptrdiff_t i = 0; i < n_tensors; i++) {
        const fgd_tensor *t = tensors + i;
        if (!is_matrix(t) || !fgd_wants_matrices(groups + t->group, t->dtype)) continue;
        n++;
        if (desk_size(t) > largest) largest = desk_size(t);
    }
    return n == 0 ? 0 : FGD_LANE_BYTES + whole_lines(n * sizeof(fgd_matrix)) + (size_t)threads * largest;
}

/* --------------------------------------------------------------------------------------------------- the list */

/* Multiplications, about: two Gram matrices and two products with them, and a dozen products of those. */
static double work_of(const fgd_tensor *t)
{
    const double m = (double)smaller_side(t);
    return m * (double)t->size * 3 + m * m * m * 7;
}

static int by_work(const void *a, const void *b)
{
    const fgd_matrix *x = a, *y = b;
    if (x->work != y->work) return x->work < y->work ? 1 : -1;
    return x->tensor < y->tensor ? -1 : 1;
}

void fgd_find_matrices(fgd_matrices *matrices, const fgd_tensor *tensors, const fgd_plan *plans, void *room,
                       ptrdiff_t n_tensors)
{
    char *memory = room == NULL ? NULL : (char *)room + (FGD_LANE_BYTES - (uintptr_t)room % FGD_LANE_BYTES);
    matrices->list = (fgd_matrix *)memory;
    ptrdiff_t first_sum = 0;
    for (ptrdiff_t i = 0; i < n_tensors; i++) {
        const fgd_tensor *t = tensors + i;
        if (t->grad && fgd_is_made_orthonormal(t, plans + t->plan)) {
            matrices->list[matrices->n++] = (fgd_matrix){i, first_sum, work_of(t)};
            matrices->work += work_of(t);
            if (desk_size(t) > matrices->desk_size) matrices->desk_size = desk_size(t);
        }
        first_sum += 2 * fgd_n_chunks(t->size);
    }
    if (matrices->n == 0) return;
    matrices->desks = memory + whole_lines((size_t)matrices->n * sizeof(fgd_matrix));
    qsort(matrices->list, (size_t)matrices->n, sizeof(fgd_matrix), by_work);
}

void fgd_share_matrices(fgd_matrices *matrices, int all)
{
    double left = matrices->work;
    ptrdiff_t k = 0;
    while (all > 1 && k < matrices->n && matrices->list[k].work * all > left) left -= matrices->list[k++].work;
    matrices->n_shared = k;
    matrices->taken = k;
}

/* -------------------------------------------------------------------------------------------------- the update */

static void update_matrix(fgd_mate *mate, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                          double *sums)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[tensor->dtype];
    const ptrdiff_t chunks = fgd_n_chunks(tensor->size);
    const size_t chunk_bytes = FGD_STEP_CHUNK * fgd_element_size(tensor->dtype);
    for (ptrdiff_t c = mate->me; c < chunks; c += mate->all) {
        const ptrdiff_t first = c * FGD_STEP_CHUNK, left = tensor->size - first;
        const ptrdiff_t n = left < FGD_STEP_CHUNK ? left : FGD_STEP_CHUNK;
        char *x = (char *)mate->desk.x + (size_t)c * chunk_bytes;
        kernels->direct(x, tensor, plan, pass, first, n);
        mate->desk.sums[c] = kernels->sum_squares(x, n);
    }
    fgd_wait_for_mates(mate);
    fgd_tensor with_result = *tensor;
    with_result.state[FGD_ORTHONORMAL] = (void *)kernels->orthonormalize(mate, tensor, &plan->iteration);
    for (ptrdiff_t c = mate->me; c < chunks; c += mate->all) {
        const ptrdiff_t first = c * FGD_STEP_CHUNK, left = tensor->size - first;
        const double square =
            kernels->update(&with_result, plan, pass, first, left < FGD_STEP_CHUNK ? left : FGD_STEP_CHUNK);
        if (pass->norms) sums[2 * c] = square;
    }
    fgd_wait_for_mates(mate);
}

void fgd_update_matrices(fgd_matrices *matrices, const fgd_tensor *tensors, const fgd_plan *plans, const fgd_pass *pass,
                         double *sums, int me, int all)
{
    char *own = matrices->desks + (size_t)me * matrices->desk_size;
    fgd_mate mate = {.panel = own, .arrived = &matrices->arrived, .me = me, .all = all};
    for (ptrdiff_t k = 0; k < matrices->n_shared; k++) {
        const fgd_matrix *m = matrices->list + k;
        lay_desk(&mate.desk, matrices->desks, tensors + m->tensor);
        update_matrix(&mate, tensors + m->tensor, plans + tensors[m->tensor].plan, pass, sums + m->first_sum);
    }
    mate.me = 0, mate.all = 1;
    for (;;) {
        const ptrdiff_t k = (ptrdiff_t)FGD_ADD(matrices->taken, 1);
        if (k >= matrices->n) return;
        const fgd_matrix *m = matrices->list + k;
        lay_desk(&mate.desk, own, tensors + m->tensor);
        update_matrix(&mate, tensors + m->tensor, plans + tensors[m->tensor].plan, pass, sums + m->first_sum);
    }
}
