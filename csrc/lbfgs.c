/* Passes over whole vectors and threads, and the recursion of L-BFGS made of them: compiled once.
 *
 * A vector is cut into chunks that depend on its length alone. Each thread takes neighbouring chunks, the same in every
 * pass, so that what it has written is still in its caches; what the chunks give is put together in order. Between two
 * passes the last thread to arrive works out what the next one is. */
#include "chunks.h"
#include "parallel.h"

#include <string.h>

typedef struct job {
    fgd_vectors v; /* the pass that is going on */
    ptrdiff_t n;
    int dtype, passes;         /* passes done */
    double *sums;              /* two for each chunk */
    double results[2];         /* of the last pass */
    int (*next)(struct job *); /* prepares the next pass; 0 if there is none */
    const fgd_history *history;
    const void *gradient;
    double *al, h_diag;
    int going_on;
    fgd_atomic arrived, left;
} job;

ptrdiff_t fgd_n_vector_sums(ptrdiff_t n) { return 2 * fgd_n_chunks(n); }

/* Puts together what the chunks of a pass have given. */
static void collect(job *j)
{
    double first = 0, second = 0;
    for (ptrdiff_t c = 0; c < fgd_n_chunks(j->n); c++) {
        const double a = j->sums[2 * c], b = j->sums[2 * c + 1];
        first = j->v.op != FGD_MAGNITUDES ? first + a : a > first ? a : first;
        second += b;
    }
    j->results[0] = first;
    j->results[1] = second;
    j->passes++;
}

static void work(job *j, int me, int all)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[j->dtype];
    const ptrdiff_t begin = fgd_n_chunks(j->n) * me / all, end = fgd_n_chunks(j->n) * (me + 1) / all;
    for (long long pass = 1; j->going_on; pass++) {
        for (ptrdiff_t c = begin; c < end; c++) {
            const ptrdiff_t first = c * FGD_STEP_CHUNK, rest = j->n - first;
            kernels->vectors(j->sums + 2 * c, &j->v, first, rest < FGD_STEP_CHUNK ? rest : FGD_STEP_CHUNK);
        }
        /* each pass is counted by every thread, and once more when what follows is known */
        if (FGD_ADD(j->arrived, 1) + 1 == pass * (all + 1) - 1) {
            collect(j);
            j->going_on = j->next && j->next(j);
            (void)FGD_ADD(j->arrived, 1);
        } else {
            for (int spins = 0; FGD_GET(j->arrived) < pass * (all + 1);) fgd_wait_a_little(&spins);
        }
    }
    fgd_meet(&j->left, all);
}

static void run(job *j, int threads)
{
    const int team = fgd_team(threads, (double)j->n, FGD_SERIAL_STEP);
    memset(j->sums, 0, (size_t)fgd_n_vector_sums(j->n) * sizeof(double));
    j->going_on = 1;
    if (team > 1) {
        FGD_PARALLEL(team)
        work(j, FGD_THREAD, FGD_TEAM);
    } else {
        work(j, 0, 1);
    }
}

void fgd_vector_pass(double *results, double *sums, const fgd_vectors *pass, ptrdiff_t n, int dtype, int threads)
{
    job j = {.v = *pass, .n = n, .dtype = dtype, .sums = sums};
    run(&j, threads);
    results[0] = j.results[0];
    results[1] = j.results[1];
}

static const void *step_of(const fgd_history *h, int i) { return (const char *)h->steps + h->slots[i] * h->stride; }

static const void *change_of(const fgd_history *h, int i) { return (const char *)h->changes + h->slots[i] * h->stride; }

/* The two loops of Nocedal & Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.4, with q = -gradient so that
 * the result is the direction. A product that a loop begins with was worked out by the pass before. */
static int next_of_recursion(job *j)
{
    const fgd_history *h = j->history;
    const double product = j->results[0];
    const int m = h->m, i = j->passes <= m ? m - j->passes : j->passes - m - 1;
    j->v.op = FGD_ADVANCE;
    if (j->passes > 2 * m) return 0;
    if (j->passes <= m) { /* first loop, i = m-1 .. 0: alpha_i = rho_i s_i . q, q -= alpha_i y_i */
        j->al[i] = h->ro[i] * product;
        j->v.a = -j->al[i];
        j->v.x = change_of(h, i);
        j->v.z = i ? step_of(h, i - 1) : change_of(h, 0);
        j->v.scale = i ? 1 : j->h_diag; /* r = H0 q */
    } else {                            /* second loop, i = 0 .. m-1: beta = rho_i y_i . r, r += s_i (alpha_i - beta) */
        j->v.a = j->al[i] - h->ro[i] * product;
        j->v.x = step_of(h, i);
        j->v.z = i + 1 < m ? change_of(h, i + 1) : j->gradient;
        j->v.scale = 1;
    }
    return 1;
}

double fgd_lbfgs_direction(void *direction, double *al, double *sums, const void *gradient, const fgd_history *history,
                           double h_diag, ptrdiff_t n, int dtype, int threads)
{
    job j = {.n = n,
             .dtype = dtype,
             .sums = sums,
             .next = next_of_recursion,
             .history = history,
             .gradient = gradient,
             .al = al,
             .h_diag = h_diag};
    j.v.op = FGD_NEGATE;
    j.v.out = direction;
    j.v.x = gradient;
    j.v.z = history->m ? step_of(history, history->m - 1) : gradient;
    run(&j, threads);
    return j.results[0];
}
