/* The few words of OpenMP that are used, what they mean in a build without it, and a barrier that can share a core. */
#ifndef FASTGD_PARALLEL_H
#define FASTGD_PARALLEL_H

#include <stddef.h>

#ifdef _OPENMP
#include <omp.h>
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_PARALLEL(team) FGD_PRAGMA(omp parallel num_threads(team))
#define FGD_THREAD omp_get_thread_num()
#define FGD_TEAM omp_get_num_threads()
#else
#define FGD_PARALLEL(team) (void)(team);
#define FGD_THREAD 0
#define FGD_TEAM 1
#endif

/* Waiting for another thread. OpenMP's own barrier spins for milliseconds before it lets go of the core; where two
 * threads of a team have come to share one (other programs run, or there are more threads than cores), every barrier
 * then costs that long. This waits some microseconds and then yields. A compiler without C11's atomics gets no team. */
#if defined(_OPENMP) && !defined(__STDC_NO_ATOMICS__) && (defined(__unix__) || defined(__APPLE__))
#define FGD_TEAMS 1
#include <sched.h>
#include <stdatomic.h>
typedef atomic_llong fgd_atomic;
#define FGD_GET(x) atomic_load_explicit(&(x), memory_order_acquire)
#define FGD_SET(x, value) atomic_store_explicit(&(x), (value), memory_order_release)
#define FGD_ADD(x, value) atomic_fetch_add_explicit(&(x), (value), memory_order_acq_rel) /* gives the old value */
#define FGD_SWAP(x, old, new_)                                                                                         \
    atomic_compare_exchange_weak_explicit(&(x), &(old), (new_), memory_order_acq_rel, memory_order_relaxed)
#define FGD_YIELD sched_yield()
#else
#define FGD_TEAMS 0
typedef long long fgd_atomic;
#define FGD_GET(x) (x)
#define FGD_SET(x, value) ((x) = (value))
#define FGD_ADD(x, value) (((x) += (value)) - (value))
#define FGD_SWAP(x, old, new_) ((x) = (new_), 1)
#define FGD_YIELD ((void)0)
#endif

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define FGD_PAUSE __builtin_ia32_pause()
#else
#define FGD_PAUSE ((void)0)
#endif

enum { FGD_SPINS = 400 };

/* Call in a loop that waits, with a counter that starts at zero. */
static inline void fgd_wait_a_little(int *spins)
{
    if (++*spins < FGD_SPINS)
        FGD_PAUSE;
    else
        FGD_YIELD;
}

/* At the end of a parallel region's work, so that the region's own barrier finds everybody there; `arrived` starts at
 * zero. */
static inline void fgd_meet(fgd_atomic *arrived, int n_threads)
{
    (void)FGD_ADD(*arrived, 1);
    for (int spins = 0; FGD_GET(*arrived) < n_threads;) fgd_wait_a_little(&spins);
}

/* A place where a team meets again and again; zeros at first. */
typedef struct {
    fgd_atomic arrived, round;
} fgd_meeting;

/* 1 for the thread that comes last, while the others wait until it calls fgd_leave(); 0 for them, afterwards. */
static inline int fgd_arrive(fgd_meeting *meeting, int n_threads)
{
    const long long round = FGD_GET(meeting->round);
    if (FGD_ADD(meeting->arrived, 1) == n_threads - 1) return 1;
    for (int spins = 0; FGD_GET(meeting->round) == round;) fgd_wait_a_little(&spins);
    return 0;
}

static inline void fgd_leave(fgd_meeting *meeting)
{
    FGD_SET(meeting->arrived, 0);
    (void)FGD_ADD(meeting->round, 1);
}

/* The first of `total` things that belong to share c of n; that of share n is the end. */
static inline ptrdiff_t fgd_part_start(ptrdiff_t total, ptrdiff_t c, ptrdiff_t n)
{
    return total / n * c + (total % n < c ? total % n : c);
}

#endif
