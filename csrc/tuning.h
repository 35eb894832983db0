/* Sizes that were measured, in one place. Where one of them fixes the order of a sum, it may not depend on the machine.
 */
#ifndef FASTGD_TUNING_H
#define FASTGD_TUNING_H

enum {
    FGD_LANE_BYTES = 64,     /* a vector: one 512-bit, two 256-bit or four 128-bit registers */
    FGD_SEGMENT = 256,       /* predictions kept until their losses are worked out together */
    FGD_AHEAD_BYTES = 12288, /* prefetch this far ahead, */
    FGD_AHEAD_ROWS_MIN = 4,  /* but at least and at most so many rows */
    FGD_AHEAD_ROWS_MAX = 64,
    FGD_GROUP_BYTES =
        16384,           /* rows between product and gradient: with the next ones at home in the first-level cache, */
    FGD_GROUP_MAX = 64,  /* at most so many */
    FGD_CLASS_ROWS = 16, /* the same with a softmax over classes: so many rows, */
    FGD_CLASS_BYTES = 32768,    /* or as many as fit, */
    FGD_SPARSE_ROWS = 32,       /* sparse: rows that one thread predicts, a multiple of FGD_CLASS_ROWS, */
    FGD_SPARSE_AHEAD = 8,       /* fetched so many ahead, */
    FGD_DEAL_FROM = 3,          /* threads for which it pays to deal out the columns: */
    FGD_VALUES = 2048,          /* values that one thread sorts by range of columns, */
    FGD_WAVE = 64,              /* so many times before they are added up, */
    FGD_RANGES = 256,           /* into at most so many ranges */
    FGD_CHUNK_ROWS = 128,       /* a chunk, whose gradient one thread sums before it is added to the others in order, */
    FGD_CHUNK_ELEMENTS = 16384, /* has at least so many rows, and about so many numbers, */
    FGD_MAX_CHUNKS = 256,       /* or more, where there would be more chunks than this */
    FGD_FULL_CHUNKS = 64,       /* all rows at once: at most so many chunks, */
    FGD_FULL_ELEMENTS = 16384,  /* each of so many numbers at least, */
    FGD_FULL_SPARSE = 16,       /* of sparse rows so many for each sum, */
    FGD_FULL_SUMS = 4194304,    /* and no more sums than this in all; */
    FGD_FULL_RUN = 512,         /* so many rows are summed in their own dtype before double; */
    FGD_FULL_GROUP = 16,        /* sparse rows between product and gradient; */
    FGD_GRAM_CHUNKS = 8,        /* the same for products of columns */
    FGD_SUM_PARTS = 64,         /* parts of a sum over one array */
    FGD_LINE_BYTES = 64,        /* a line of the caches */
    FGD_LINE_ELEMENTS = 64,     /* threads meet on multiples of this, so that they share no cache line */
    FGD_STEP_CHUNK = 4096,      /* optimizers: elements that one thread takes, whose squares are summed together, */
    FGD_STEP_BLOCK = 1024,      /* and that stay in the first-level cache between the parts of a step, */
    FGD_STEP_RUN = 128,         /* so few in the update that all arrays are read steadily, */
    FGD_LOW_BLOCK = 512,        /* also where it is converted, and memory is to be read steadily all the same; */
    FGD_STEP_LONG = 1 << 22,    /* where nothing but the rule is done, to arrays longer than caches: */
    FGD_STEP_FETCH = 512,       /* so few, */
    FGD_STEP_AHEAD = 2048,      /* fetched so many elements ahead; */
    FGD_HALVES_AHEAD = 1024,    /* bfloat16 states, converted in the rule's loop: fetched so many elements ahead, */
    FGD_CODES_AHEAD = 1024,     /* 8-bit states: the same, */
    FGD_CODES_OPEN = 2,         /* blocks whose largest magnitudes are looked for together, */
    FGD_CODE_RUN = 16,          /* words whose elements are worked on between two prefetches */
    FGD_FOLD = 256,             /* rows or columns whose squares are summed together */
    FGD_DEPTH = 256,            /* products: terms that are summed together, */
    FGD_PANEL_BYTES = 32768,    /* and so many pairs of registers of them, at home in the first-level cache; */
    FGD_PRODUCT_ROWS = 256,     /* so many rows at a time, */
    FGD_ROW_BYTES = 2048,       /* and a factor whose rows are longer than this is copied for more than two tiles */
    FGD_NETWORK_TILE = 8,       /* networks: a thread's rows of a batch, and inputs of a part, are multiples of this; */
    FGD_PART_ELEMENTS = 4096,   /* a part of a layer's weights has about so many, at home in the first-level cache, */
    FGD_PART_STEP = 16,         /* whose step costs as much as so many rows of their gradient; */
    FGD_PREDICT_ROWS = 64,      /* rows that are predicted at a time */
    FGD_INT8_ROWS = 32,         /* 8-bit codes: rows that go through all layers together */
    FGD_GRAM_STEPS = 3,         /* Newton-Schulz: iterations on one Gram matrix, */
    FGD_GRAM_STEPS_LONG = 5     /* and in float32 on that of a long one */
};

/* Work below which threads cost more than they bring: elements of a step and of a sum, multiplications of a
 * batch, interactions of rows. */
#define FGD_SERIAL_STEP 65536.0
#define FGD_PRODUCTS_PER_ELEMENT                                                                                       \
    16.0 /* multiplications of a matrix product that cost as much as an element of a step */
#define FGD_SERIAL_SUM 262144.0
#define FGD_SERIAL_BATCH 30000.0
#define FGD_SERIAL_PRODUCTS 30000.0
#define FGD_SERIAL_NETWORK 500000.0
#define FGD_SERIAL_INT8 500000.0

/* A pivot below this part of its column's square is rounding. */
#define FGD_PIVOT 1e-12

#endif
