/* The choice of the kernel table, the info tables, and what the machine says about threads. */
#if defined(__linux__) || defined(__APPLE__)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#define FGD_POSIX 1
#endif

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#include <cpuid.h>
#endif

#include "fastgd.h"
#include "isas.h"
#include "parallel.h"
#include "rules.h"

#include <math.h>

/* ----------------------------------------------------------------------------------------------- info tables */

const fgd_rule_info fgd_rules[] = {
#define RULE(name, formula, kind, states, kept, hypers) {#name, FGD_##kind, states, kept, hypers},
#define STATES(always, optional, list)                                                                                 \
    (always) + (optional), { list }
#define S(name, kept_if) {#name, #kept_if},
#define KEPT(...)                                                                                                      \
    (int)(sizeof((const char *[]){__VA_ARGS__ ""}) / sizeof(char *)) - 1, { __VA_ARGS__ NULL }
#define K(name) #name,
#define HYPERS(list)                                                                                                   \
    (int)(sizeof((fgd_hyper_info[]){list}) / sizeof(fgd_hyper_info)), { list }
#define H(name, value, domain) {#name, value, FGD_##domain},
    FGD_OPTIM_RULES(RULE, STATES, S, KEPT, K, HYPERS, H) FGD_ONLINE_RULES(RULE, STATES, S, KEPT, K, HYPERS, H)
#undef RULE
};
const int fgd_n_rules = (int)(sizeof fgd_rules / sizeof *fgd_rules);

const fgd_loss_info fgd_losses[] = {
#define LOSS(name, task, parameter, value, domain, targets, link, bounded)                                             \
    {#name, task, {parameter, value, FGD_##domain}, targets, link, bounded},
    FGD_LOSS_RULES(LOSS)
#undef LOSS
};
const int fgd_n_losses = (int)(sizeof fgd_losses / sizeof *fgd_losses);

const fgd_activation_info fgd_activations[] = {
#define ACTIVATION(name, parameter, value, kept) {#name, {parameter, value, FGD_NONNEGATIVE}},
    FGD_ACTIVATION_RULES(ACTIVATION)
#undef ACTIVATION
};
const int fgd_n_activations = (int)(sizeof fgd_activations / sizeof *fgd_activations);

/* ------------------------------------------------------------------------------------------ instruction sets */

/* FGD_ISAS(ROW) comes from CMake, worst first: ROW(name, condition that the processor must meet) */
#define ROW(name, supported) extern const fgd_kernels fgd_kernels_##name;
FGD_ISAS(ROW)
#undef ROW

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define FGD_CPU(feature) __builtin_cpu_supports(feature)
#else
#define FGD_CPU(feature) 0
#endif
#define ALWAYS 1
#define AVX2 (FGD_CPU("avx2") && FGD_CPU("fma"))
#define AVX512 (FGD_CPU("avx512f") && FGD_CPU("avx512bw") && FGD_CPU("avx512dq") && FGD_CPU("avx512vl"))

static const fgd_kernels *const tables[] = {
#define ROW(name, supported) &fgd_kernels_##name,
    FGD_ISAS(ROW)
#undef ROW
};
enum { N_TABLES = sizeof tables / sizeof *tables };

const fgd_kernels *fgd_active;

const char *fgd_isa_name(int i) { return i >= 0 && i < N_TABLES ? tables[i]->isa : NULL; }

int fgd_isa_supported(int i)
{
    int k = 0;
#define ROW(name, supported)                                                                                           \
    if (k++ == i) return supported ? 1 : 0;
    FGD_ISAS(ROW)
#undef ROW
    return 0;
}

int fgd_use(int i)
{
    if (!fgd_isa_supported(i)) return 0;
    fgd_active = tables[i];
    return 1;
}

/* ---------------------------------------------------------------------------------------------- int8 products */

/* FGD_OVERLAYS(ROW) comes from CMake: ROW(instruction set, what multiplies codes beside it, condition) */
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
static int has_avxvnni(void) /* compilers' own words for it are younger */
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif
#define AVXVNNI has_avxvnni()
#define AVX512VNNI FGD_CPU("avx512vnni")

#define ROW(isa, name, supported)                                                                                      \
    void fgd_int8_product_##name(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride,                 \
                                 const int8_t *packed, ptrdiff_t rows, ptrdiff_t blocks, ptrdiff_t depth);
FGD_OVERLAYS(ROW)
#undef ROW

fgd_int8_product fgd_int8_product_here(int portable)
{
#define ROW(isa, name, supported)                                                                                      \
    if (!portable && fgd_active == &fgd_kernels_##isa && supported) return fgd_int8_product_##name;
    FGD_OVERLAYS(ROW)
#undef ROW
    (void)portable;
    return fgd_active->int8_product;
}

const char *fgd_int8_name(int portable)
{
#define ROW(isa, name, supported)                                                                                      \
    if (fgd_int8_product_here(portable) == fgd_int8_product_##name) return #name;
    FGD_OVERLAYS(ROW)
#undef ROW
    (void)portable;
    return "portable";
}

/* ---------------------------------------------------------------------------------------------------- the build */

const char *fgd_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#elif defined(_MSC_VER)
    return "msvc";
#else
    return "unknown";
#endif
}

/* --------------------------------------------------------------------------------------------------- threads */

/* GNU OpenMP's threads do not survive a fork, and the next parallel region would wait for them for ever: a child
 * runs serially. */
static int forked_child;

#if defined(_OPENMP) && defined(FGD_POSIX)
static void in_child(void) { forked_child = 1; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }
#endif

int fgd_has_openmp(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int fgd_openmp_max_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

const char *fgd_openmp_file(void)
{
#if defined(_OPENMP) && defined(FGD_POSIX)
    Dl_info info;
    int (*function)(void) = omp_get_max_threads;
    void *address;
    _Static_assert(sizeof address == sizeof function, "functions and data share one kind of address here");
    __builtin_memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) && info.dli_fname) return info.dli_fname;
#endif
    return "";
}

/* How many threads a piece of work gets: at most `threads`, and each at least half of `serial_below`. */
int fgd_team(int threads, double work, double serial_below)
{
    if (threads <= 1 || forked_child || !FGD_TEAMS || work < serial_below) return 1;
    const double most = work / (serial_below / 2);
    return most < threads ? (int)most : threads;
}
