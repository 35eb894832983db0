/* Quantisation with threads, and 8-bit networks: compiled once.
 *
 * An array is cut into parts of whole rounds of its channels, in a way that depends on its shape alone; what they add
 * to the channels' sums is put together in their order. */
#include "int8.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ passes */

/* elements that belong together: each channel is in them equally often */
static ptrdiff_t round_of(const fgd_quantizer *q) { return q->n_channels == 1 ? 1 : q->n_channels * q->stride; }

static ptrdiff_t n_parts(const fgd_quantizer *q, ptrdiff_t n)
{
    const ptrdiff_t chunks = n / FGD_STEP_CHUNK, rounds = n / round_of(q);
    const ptrdiff_t most = chunks < rounds ? chunks : rounds;
    return most < 1 ? 1 : most < FGD_SUM_PARTS ? most : FGD_SUM_PARTS;
}

static int has_sums(const fgd_quantize_pass *pass) { return pass->op == FGD_LEARN || pass->op == FGD_RANGE; }

ptrdiff_t fgd_n_quantize_sums(const fgd_quantize_pass *pass, ptrdiff_t n)
{
    return has_sums(pass) ? 2 * pass->quantizer->n_channels * n_parts(pass->quantizer, n) : 0;
}

static void start_sums(double *sums, const fgd_quantize_pass *pass)
{
    for (ptrdiff_t c = 0; c < pass->quantizer->n_channels; c++) {
        sums[2 * c] = pass->op == FGD_RANGE ? INFINITY : 0;
        sums[2 * c + 1] = pass->op == FGD_RANGE ? -INFINITY : 0;
    }
}

static void join_sums(double *sums, const double *more, const fgd_quantize_pass *pass)
{
    for (ptrdiff_t k = 0; k < 2 * pass->quantizer->n_channels; k++)
        if (pass->op == FGD_LEARN)
            sums[k] += more[k];
        else if (k % 2 ? more[k] > sums[k] : more[k] < sums[k])
            sums[k] = more[k];
}

typedef struct {
    double *sums;
    const fgd_quantize_pass *pass;
    ptrdiff_t n, parts, n_sums; /* elements; parts; sums of each part */
    int dtype;
} pass_job;

static void work_on_pass(const pass_job *job, int me, int all)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[job->dtype];
    const ptrdiff_t round = round_of(job->pass->quantizer), rounds = job->n / round;
    for (ptrdiff_t p = me; p < job->parts; p += all) {
        const ptrdiff_t first = fgd_part_start(rounds, p, job->parts) * round;
        const ptrdiff_t end = fgd_part_start(rounds, p + 1, job->parts) * round;
        double *mine = job->n_sums ? job->sums + p * job->n_sums : NULL;
        if (mine) start_sums(mine, job->pass);
        if (end > first) kernels->quantize(mine, job->pass, first, end - first);
    }
}

void fgd_quantize(double *sums, const fgd_quantize_pass *pass, ptrdiff_t n, int dtype, int threads)
{
    const pass_job job = {
        sums, pass, n, n_parts(pass->quantizer, n), has_sums(pass) ? 2 * pass->quantizer->n_channels : 0, dtype};
    const int team = fgd_team(threads, (double)n, FGD_SERIAL_STEP);
    if (team > 1) {
        FGD_PARALLEL(team)
        work_on_pass(&job, FGD_THREAD, FGD_TEAM);
    } else {
        work_on_pass(&job, 0, 1);
    }
    for (ptrdiff_t p = 1; p < job.parts && job.n_sums; p++) join_sums(sums, sums + p * job.n_sums, pass);
}

/* ------------------------------------------------------------------------------------------------------ int8 */

size_t fgd_int8_packed_size(ptrdiff_t n_inputs, ptrdiff_t n_outputs)
{
    return (size_t)(fgd_int8_depth(n_inputs) * fgd_int8_columns(n_outputs));
}

void fgd_int8_pack(int8_t *packed, const int8_t *weight, ptrdiff_t n_inputs, ptrdiff_t n_outputs)
{
    const ptrdiff_t depth = fgd_int8_depth(n_inputs);
    memset(packed, 0, fgd_int8_packed_size(n_inputs, n_outputs));
    for (ptrdiff_t k = 0; k < n_inputs; k++)
        for (ptrdiff_t j = 0; j < n_outputs; j++) {
            const ptrdiff_t block = j / FGD_INT8_COLUMNS * depth + k / FGD_INT8_DEPTH * FGD_INT8_DEPTH;
            packed[block * FGD_INT8_COLUMNS + j % FGD_INT8_COLUMNS * FGD_INT8_DEPTH + k % FGD_INT8_DEPTH] =
                weight[k * n_outputs + j];
        }
}

size_t fgd_int8_scratch(const fgd_int8_layer *layers, ptrdiff_t n_layers)
{
    return fgd_int8_lay(NULL, NULL, layers, n_layers);
}

typedef struct {
    float *out;
    char *scratch;
    const float *X;
    const fgd_int8_layer *layers;
    ptrdiff_t n_layers, n_rows;
    fgd_int8_product product;
    fgd_atomic taken, left; /* blocks that have been taken; threads that have no more to do */
} int8_job;

static void work_on_rows(int8_job *job, int me, int all)
{
    const ptrdiff_t n_inputs = job->layers->n_inputs, n_outputs = job->layers[job->n_layers - 1].n_outputs;
    void *desk = job->scratch + (size_t)me * fgd_int8_scratch(job->layers, job->n_layers);
    for (;;) {
        const ptrdiff_t first = (ptrdiff_t)FGD_ADD(job->taken, 1) * FGD_INT8_ROWS, left = job->n_rows - first;
        if (left <= 0) break;
        fgd_active->int8_rows(job->out + first * n_outputs, desk, job->X + first * n_inputs, job->layers, job->n_layers,
                              left < FGD_INT8_ROWS ? left : FGD_INT8_ROWS, job->product);
    }
    fgd_meet(&job->left, all);
}

void fgd_int8_predict(float *out, void *scratch, const float *X, const fgd_int8_layer *layers, ptrdiff_t n_layers,
                      ptrdiff_t n_rows, int portable, int threads)
{
    int8_job job = {.out = out,
                    .scratch = scratch,
                    .X = X,
                    .layers = layers,
                    .n_layers = n_layers,
                    .n_rows = n_rows,
                    .product = fgd_int8_product_here(portable)};
    double work = 0;
    for (ptrdiff_t l = 0; l < n_layers; l++) work += (double)(layers[l].n_inputs * layers[l].n_outputs);
    const int team = fgd_team(threads, work * (double)n_rows, FGD_SERIAL_INT8);
    if (team > 1) {
        FGD_PARALLEL(team)
        work_on_rows(&job, FGD_THREAD, FGD_TEAM);
    } else {
        work_on_rows(&job, 0, 1);
    }
}
