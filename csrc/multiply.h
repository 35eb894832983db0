/* Products of matrices for networks, once a dtype, and for making matrices orthonormal: declared for kernels.c, defined
 * by products.c, once an instruction set. */
#ifndef FASTGD_MULTIPLY_H
#define FASTGD_MULTIPLY_H

#include <stddef.h>

#include "fastgd.h"

#define FGD_JOIN_(a, b) a##_##b
#define FGD_JOIN(a, b) FGD_JOIN_(a, b)
#define FGD_OF_ISA_(a, b) a##_##b
#define FGD_OF_ISA(a, b) FGD_OF_ISA_(a, b)

/* of this instruction set */
#define fgd_multiply_f32 FGD_OF_ISA(fgd_products_f32, FGD_ISA)
#define fgd_multiply_f64 FGD_OF_ISA(fgd_products_f64, FGD_ISA)
#define fgd_fused_product FGD_OF_ISA(fgd_fused_products, FGD_ISA)

/* out (rows, columns), `stride` apart, = or += left (rows, depth) right (depth, columns). An element of left has its
 * neighbours `to_row` and `to_next` away, one of right `right_row` and `right_next`, of which one is 1. `panel` is
 * scratch for FGD_PANEL_BYTES. */
typedef void fgd_multiply(void *out, ptrdiff_t stride, const void *left, ptrdiff_t to_row, ptrdiff_t to_next,
                          const void *right, ptrdiff_t right_row, ptrdiff_t right_next, ptrdiff_t rows,
                          ptrdiff_t columns, ptrdiff_t depth, int adds, void *panel);
fgd_multiply fgd_multiply_f32, fgd_multiply_f64;

/* that of product.inl.h, of float32, each term rounded once */
typedef void fgd_product(const fgd_mate *mate, float *restrict out, const float *restrict left, ptrdiff_t to_row,
                         ptrdiff_t to_next, const float *restrict right, ptrdiff_t right_row, ptrdiff_t right_next,
                         ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, int upper);
extern fgd_product *const fgd_fused_product;

#endif
