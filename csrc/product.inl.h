/* Products of matrices that fit into the caches, by all threads that work on them together. The bits do not depend on
 * the instruction set either: kernels.c, which has the loop, does not contract a*b+c, and products.c, which has it for
 * float32 too, contracts it everywhere (fused.inl.h). */

/* out (rows, columns) = left (rows, depth) right (depth, columns): out lies row by row, an element of left has its
 * neighbours `to_row` and `to_next` away, one of right `right_row` and `right_next`, of which one is 1. If `upper`,
 * below the diagonal there is nothing of use. Mates share the rows. */
static void N(product)(const fgd_mate *mate, T *restrict out, const T *restrict left, ptrdiff_t to_row,
                       ptrdiff_t to_next, const T *restrict right, ptrdiff_t right_row, ptrdiff_t right_next,
                       ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, int upper)
{
    T *panel = mate->panel;
    for (ptrdiff_t k = 0; k < depth; k += FGD_DEPTH) {
        const ptrdiff_t terms = depth - k < FGD_DEPTH ? depth - k : FGD_DEPTH;
        for (ptrdiff_t j = 0; j < columns; j += 2 * VECTOR) {
            const ptrdiff_t here = columns - j < 2 * VECTOR ? columns - j : 2 * VECTOR;
            const ptrdiff_t width = here <= VECTOR ? VECTOR : 2 * VECTOR;
            N(pack)(panel, right + k * right_row + j * right_next, right_row, right_next, here, width, terms);
            const ptrdiff_t end = upper && j + here < rows ? j + here : rows;
            for (ptrdiff_t i = mate->me * FGD_TILE_ROWS; i < end; i += mate->all * FGD_TILE_ROWS) {
                const T *from = left + i * to_row + k * to_next;
                T *to = out + i * columns + j;
                const ptrdiff_t n = rows - i < FGD_TILE_ROWS ? rows - i : FGD_TILE_ROWS;
                if (width == VECTOR)
                    N(narrow_tile)(to, columns, from, to_row, to_next, panel, width, here, terms, k > 0, n);
                else if (upper && i >= j + VECTOR) /* the panel's left half lies below the diagonal */
                    N(narrow_tile)(to + VECTOR, columns, from, to_row, to_next, panel + VECTOR, width, here - VECTOR,
                                   terms, k > 0, n);
                else
                    N(wide_tile)(to, columns, from, to_row, to_next, panel, width, here, terms, k > 0, n);
            }
        }
    }
}
