/* How large the elements of a tensor are, and how many chunks it is cut into. */
#ifndef FASTGD_CHUNKS_H
#define FASTGD_CHUNKS_H

#include "fastgd.h"
#include "tuning.h"

static inline size_t fgd_element_size(int dtype) { return dtype == FGD_FLOAT32 ? sizeof(float) : sizeof(double); }

static inline ptrdiff_t fgd_n_chunks(ptrdiff_t size) { return (size + FGD_STEP_CHUNK - 1) / FGD_STEP_CHUNK; }

#endif
