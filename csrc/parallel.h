/* The few words of OpenMP that are used, and what they mean in a build without it. */
#ifndef FASTGD_PARALLEL_H
#define FASTGD_PARALLEL_H

#ifdef _OPENMP
#include <omp.h>
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_PARALLEL(team) FGD_PRAGMA(omp parallel num_threads(team))
#define FGD_BARRIER FGD_PRAGMA(omp barrier)
#define FGD_THREAD omp_get_thread_num()
#define FGD_TEAM omp_get_num_threads()
#else
#define FGD_PARALLEL(team)
#define FGD_BARRIER
#define FGD_THREAD 0
#define FGD_TEAM 1
#endif

#endif
