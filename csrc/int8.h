/* How 8-bit codes and packed weights lie in memory: int8.inl.h has what is done with them. */
#ifndef FASTGD_INT8_H
#define FASTGD_INT8_H

#include "fastgd.h"
#include "tuning.h"

/* rows and columns of packed weights */
static inline ptrdiff_t fgd_int8_depth(ptrdiff_t n_inputs)
{
    return (n_inputs + FGD_INT8_DEPTH - 1) / FGD_INT8_DEPTH * FGD_INT8_DEPTH;
}

static inline ptrdiff_t fgd_int8_columns(ptrdiff_t n_outputs)
{
    return (n_outputs + FGD_INT8_COLUMNS - 1) / FGD_INT8_COLUMNS * FGD_INT8_COLUMNS;
}

/* Working memory of one thread, for FGD_INT8_ROWS rows. */
typedef struct {
    uint8_t *codes;     /* of a layer's input */
    int32_t *products;  /* their products with the weights, */
    int32_t *code_sums; /* their sums, */
    float *numbers[2];  /* and what has become of them: this layer's and the one's before */
} fgd_int8_desk;

static inline ptrdiff_t fgd_int8_larger(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* Lays a desk out, unless `memory` is NULL; gives its size. */
static inline size_t fgd_int8_lay(fgd_int8_desk *desk, void *memory, const fgd_int8_layer *layers, ptrdiff_t n_layers)
{
    ptrdiff_t depth = 0, columns = 0;
    for (ptrdiff_t l = 0; l < n_layers; l++) {
        depth = fgd_int8_larger(depth, fgd_int8_depth(layers[l].n_inputs));
        columns = fgd_int8_larger(columns, fgd_int8_columns(layers[l].n_outputs));
    }
    const ptrdiff_t each[] = {columns * 4, columns * 4, columns * 4, depth, 4};
    size_t starts[5], end = 0;
    for (int k = 0; k < 5; k++) {
        starts[k] = end;
        end += ((size_t)each[k] * FGD_INT8_ROWS + FGD_LINE_BYTES - 1) / FGD_LINE_BYTES * FGD_LINE_BYTES;
    }
    if (memory == NULL) return end;
    char *at = memory;
    desk->products = (int32_t *)(at + starts[0]);
    desk->numbers[0] = (float *)(at + starts[1]);
    desk->numbers[1] = (float *)(at + starts[2]);
    desk->codes = (uint8_t *)(at + starts[3]);
    desk->code_sums = (int32_t *)(at + starts[4]);
    return end;
}

#endif
