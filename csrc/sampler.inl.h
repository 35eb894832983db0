/* The order of examples: which row stands at which position of the epoch.
 *
 * An order is a permutation of blocks of neighbouring rows: one row a block is the exact shuffle, all rows one block
 * is the file's order, and 16 rows or more a block read memory at nearly the speed of the file's order (Xu et al.,
 * "In-database machine learning with CorgiPile", SIGMOD 2022). Where rows are left out, a block is one row. */

typedef struct {
    const fgd_rows *rows;
    ptrdiff_t short_slot;      /* where in the order the last, shorter block stands; n_blocks if none is shorter */
    ptrdiff_t slot, row, last; /* the block under the cursor, the next row, and the end of the block's rows */
} fgd_cursor;

static inline void fgd_enter_block(fgd_cursor *c, ptrdiff_t slot, ptrdiff_t skip)
{
    const fgd_rows *rows = c->rows;
    c->slot = slot;
    if (slot >= rows->n_blocks) return;
    const ptrdiff_t first = (ptrdiff_t)rows->order[slot] * rows->block;
    c->row = first + skip;
    c->last = first + rows->block < rows->n_rows ? first + rows->block : rows->n_rows;
}

static inline fgd_cursor fgd_cursor_at_start(const fgd_rows *rows)
{
    fgd_cursor c = {rows, rows->n_blocks, 0, 0, 0};
    if (rows->n_rows % rows->block)
        for (c.short_slot = 0; rows->order[c.short_slot] != rows->n_blocks - 1;) c.short_slot++;
    fgd_enter_block(&c, 0, 0);
    return c;
}

static inline void fgd_seek(fgd_cursor *c, ptrdiff_t position)
{
    if (position >= fgd_n_visited(c->rows)) position = fgd_n_visited(c->rows) - 1;
    const ptrdiff_t block = c->rows->block, before = c->short_slot * block;
    const ptrdiff_t missing = position < before + c->rows->n_rows % block ? 0 : block - c->rows->n_rows % block;
    const ptrdiff_t shifted = c->short_slot < c->rows->n_blocks ? position + missing : position;
    fgd_enter_block(c, shifted / block, shifted % block);
}

/* How many rows ahead to prefetch. */
static inline ptrdiff_t fgd_rows_ahead(ptrdiff_t row_bytes)
{
    const ptrdiff_t fitting = FGD_AHEAD_BYTES / row_bytes;
    return fitting < FGD_AHEAD_ROWS_MIN   ? FGD_AHEAD_ROWS_MIN
           : fitting > FGD_AHEAD_ROWS_MAX ? FGD_AHEAD_ROWS_MAX
                                          : fitting;
}

/* the row under the cursor, which then moves on; past the end it stays on the last row */
static inline ptrdiff_t fgd_next_row(fgd_cursor *c)
{
    if (c->slot >= c->rows->n_blocks) return c->row;
    const ptrdiff_t row = c->row;
    if (++c->row == c->last) {
        fgd_enter_block(c, c->slot + 1, 0);
        if (c->slot >= c->rows->n_blocks) c->row = row;
    }
    return row;
}

/* the next n rows under the cursor */
static inline void fgd_next_rows(fgd_cursor *c, ptrdiff_t *rows, ptrdiff_t n)
{
    while (n > 0) {
        ptrdiff_t run = c->last - c->row;
        run = run > n ? n : run < 1 ? 1 : run;
        for (ptrdiff_t k = 0; k < run - 1; k++) rows[k] = c->row + k;
        c->row += run - 1;
        rows[run - 1] = fgd_next_row(c);
        rows += run, n -= run;
    }
}

/* A cursor that walks along one thread's share of a batch and then goes on with its share of the next: what to prefetch
 * while the shares are being read. */
typedef struct {
    fgd_cursor cursor;
    ptrdiff_t left, then; /* rows left of this share; where the next one starts */
} fgd_scout;

/* `ahead` rows in front of `position`, in a share that ends at `stop`; the next one starts at `then`. */
static inline fgd_scout fgd_scout_at(fgd_cursor cursor, ptrdiff_t position, ptrdiff_t ahead, ptrdiff_t stop,
                                     ptrdiff_t then)
{
    const ptrdiff_t left = stop - (position + ahead);
    fgd_seek(&cursor, left > 0 ? position + ahead : then - left);
    return (fgd_scout){cursor, left > 0 ? left : cursor.rows->n_rows, then};
}

static inline void fgd_scout_rows(fgd_scout *s, ptrdiff_t *rows, ptrdiff_t n)
{
    const ptrdiff_t here = n < s->left ? n : s->left;
    fgd_next_rows(&s->cursor, rows, here);
    s->left -= here;
    if (here == n) return;
    fgd_seek(&s->cursor, s->then);
    s->left = s->cursor.rows->n_rows;
    fgd_next_rows(&s->cursor, rows + here, n - here);
}
