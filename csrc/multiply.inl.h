/* Products of matrices for networks, by one thread, and with contraction of a*b+c where the processor has it.
 *
 * A factor whose rows are short enough to lie in the caches side by side is read where it is; else a panel of it is
 * copied, which changes no bit. So the few rows of a batch cost no copy of the weights. */

/* Is a panel of so many columns better copied, to be used for so many rows? */
static int N(is_packed)(ptrdiff_t to_row, ptrdiff_t to_next, ptrdiff_t columns, ptrdiff_t rows)
{
    if (to_next != 1 || columns % VECTOR != 0) return 1;
    return to_row * (ptrdiff_t)sizeof(T) > FGD_ROW_BYTES && rows > 2 * FGD_TILE_ROWS;
}

/* the same for so few rows that those of `left` stay in the caches */
static void N(multiply_some)(T *out, ptrdiff_t stride, const T *left, ptrdiff_t to_row, ptrdiff_t to_next,
                             const T *right, ptrdiff_t right_row, ptrdiff_t right_next, ptrdiff_t rows,
                             ptrdiff_t columns, ptrdiff_t depth, int adds, T *panel)
{
    for (ptrdiff_t k = 0; k < depth; k += FGD_DEPTH) {
        const ptrdiff_t terms = depth - k < FGD_DEPTH ? depth - k : FGD_DEPTH;
        const int more = adds || k > 0;
        for (ptrdiff_t j = 0; j < columns; j += 2 * VECTOR) {
            const ptrdiff_t here = columns - j < 2 * VECTOR ? columns - j : 2 * VECTOR;
            const T *from = right + k * right_row + j * right_next;
            ptrdiff_t width = right_row;
            if (N(is_packed)(right_row, right_next, here, rows)) {
                width = here <= VECTOR ? VECTOR : 2 * VECTOR;
                N(pack)(panel, from, right_row, right_next, here, width, terms);
                from = panel;
            }
            for (ptrdiff_t i = 0; i < rows; i += FGD_TILE_ROWS) {
                const T *a = left + i * to_row + k * to_next;
                T *to = out + i * stride + j;
                const ptrdiff_t n = rows - i < FGD_TILE_ROWS ? rows - i : FGD_TILE_ROWS;
                if (here <= VECTOR)
                    N(narrow_tile)(to, stride, a, to_row, to_next, from, width, here, terms, more, n);
                else
                    N(wide_tile)(to, stride, a, to_row, to_next, from, width, here, terms, more, n);
            }
        }
    }
}

void N(fgd_multiply)(void *out, ptrdiff_t stride, const void *left, ptrdiff_t to_row, ptrdiff_t to_next,
                     const void *right, ptrdiff_t right_row, ptrdiff_t right_next, ptrdiff_t rows, ptrdiff_t columns,
                     ptrdiff_t depth, int adds, void *panel)
{
    for (ptrdiff_t i = 0; i < rows; i += FGD_PRODUCT_ROWS)
        N(multiply_some)((T *)out + i * stride, stride, (const T *)left + i * to_row, to_row, to_next, right, right_row,
                         right_next, rows - i < FGD_PRODUCT_ROWS ? rows - i : FGD_PRODUCT_ROWS, columns, depth, adds,
                         panel);
}
