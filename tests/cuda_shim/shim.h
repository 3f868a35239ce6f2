// CUDA on the CPU, for tests: each thread of a block is a fiber with a stack of its own, barriers and warp shuffles are
// where fibers give way. One block after the other, one OS thread, the same order in every run.
//
// It shows missing barriers (fibers run in ascending, descending or shuffled order, shared memory is filled with NaN
// before each block), barriers that only some threads reach (they wait for ever: code 2) and, with -fsanitize, bad
// addresses. It does not model races within a warp, memory ordering, coalescing or FMA contraction.
//
// Plain arrays and pointers: every variant of every source is compiled with this text, and <vector>, <functional>,
// <memory> and <cmath> cost more of the compiler's time than the kernels.
#pragma once
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>
#include <utility>

// What the kernels take of <math.h>.
extern "C" double fabs(double) noexcept;
extern "C" float fabsf(float) noexcept;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __restrict__ __restrict
#define __grid_constant__
// One block at a time runs, so static memory is shared memory. It lies in a section of its own, to be filled with NaN
// before each block; the address sanitizer guards no such memory, and gets plain static one.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static __attribute__((section("shim_shared")))
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shim_shared[], __stop_shim_shared[];
#endif
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __ldg(p) (*(p))
#define DYN_SHARED(name) unsigned char *const name = shim::shared

struct dim3 {
    unsigned x, y, z;
};

namespace shim {
inline dim3 block_index, block_size, grid_size, thread_index;
inline unsigned current = 0, threads = 0;
enum State { RUN, BLOCK_BARRIER, WARP_BARRIER, DONE };
struct Fiber {
    ucontext_t context;
    jmp_buf jump;
    bool begun = false;
    State state = DONE;
    int site = 0;  // the line of the barrier at which it waits
    char *stack = nullptr;  // kept for the launches to come
};
constexpr unsigned MOST = 1024;
constexpr size_t STACK = 256 * 1024;
inline Fiber fibers[MOST];
inline ucontext_t home;
inline jmp_buf home_jump;
inline void (*body)(void *kernel, void **arguments);
inline void *kernel_of_body, **arguments_of_body;
inline unsigned char *shared = nullptr;
inline unsigned order[MOST];
inline int mode = 0;  // 0: ascending, 1: descending, 2: shuffled
struct Exchange {
    unsigned char bytes[8];
};
inline Exchange exchange[2][MOST];
inline unsigned char parity[MOST];

// Under the address sanitizer fibers switch by swapcontext, which it knows; else by longjmp, which makes no system call.
#if defined(__SANITIZE_ADDRESS__)
inline void to_home(Fiber &f) { swapcontext(&f.context, &home); }
inline void to_fiber(Fiber &f) { swapcontext(&home, &f.context); }
#else
inline void to_home(Fiber &f) {
    if (!_setjmp(f.jump)) _longjmp(home_jump, 1);
}
inline void to_fiber(Fiber &f) {
    if (_setjmp(home_jump)) return;
    if (f.begun) _longjmp(f.jump, 1);
    f.begun = true;
    setcontext(&f.context);
}
#endif

inline void become(unsigned i) {
    current = i;
    thread_index = {i, 0, 0};
}
inline void entry() {
    body(kernel_of_body, arguments_of_body);
    fibers[current].state = DONE;
    to_home(fibers[current]);
}
inline void wait(State s, int site) {
    const unsigned me = current;
    fibers[me].state = s;
    fibers[me].site = site;
    to_home(fibers[me]);
}
// Where all threads of [a, b) wait at one barrier, they go on. A device promises nothing where some have ended, or wait
// at a barrier elsewhere in the text: they never go on.
inline bool release(unsigned a, unsigned b, State s) {
    for (unsigned i = a; i < b; ++i)
        if (fibers[i].state != s || fibers[i].site != fibers[a].site) return false;
    for (unsigned i = a; i < b; ++i) fibers[i].state = RUN;
    return true;
}
inline int launch(unsigned blocks, unsigned count, size_t bytes) {
    if (count > MOST || count == 0) return 1;
    grid_size = {blocks, 1, 1};
    block_size = {count, 1, 1};
    threads = count;
    for (unsigned i = 0; i < count; ++i)
        if (!fibers[i].stack) fibers[i].stack = new char[STACK];
    for (unsigned i = 0; i < count; ++i) order[i] = mode == 1 ? count - 1 - i : i;
    unsigned seed = 12345;
    if (mode == 2)
        for (unsigned i = count - 1; i > 0; --i) std::swap(order[i], order[(seed = seed * 1664525u + 1013904223u) % (i + 1)]);
    memset(parity, 0, sizeof parity);
    delete[] shared;
    shared = new unsigned char[bytes];  // of this size exactly, so that the sanitizer sees the end
    for (unsigned b = 0; b < blocks; ++b) {
        block_index = {mode == 1 ? blocks - 1 - b : b, 0, 0};
        memset(shared, 0xff, bytes);
#if !defined(__SANITIZE_ADDRESS__)
        if (__start_shim_shared) memset(__start_shim_shared, 0xff, __stop_shim_shared - __start_shim_shared);
#endif
        for (unsigned i = 0; i < count; ++i) {
            Fiber &f = fibers[i];
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = f.stack;
            f.context.uc_stack.ss_size = STACK;
            f.context.uc_link = nullptr;
            makecontext(&f.context, entry, 0);
            f.begun = false;
            f.state = RUN;
        }
        for (;;) {
            bool ran = false, alive = false, freed = false;
            for (unsigned k = 0; k < count; ++k) {
                const unsigned i = order[k];
                if (fibers[i].state == RUN) {
                    become(i);
                    to_fiber(fibers[i]);
                    ran = true;
                }
                alive |= fibers[i].state != DONE;
            }
            if (!alive) break;
            for (unsigned w = 0; w < count; w += 32) freed |= release(w, w + 32 < count ? w + 32 : count, WARP_BARRIER);
            if (!freed) freed = release(0, count, BLOCK_BARRIER);
            if (!ran && !freed) return 2;
        }
    }
    return 0;
}
// Two buffers in turn: nobody writes one again before all lanes have passed the barrier of the other.
template <typename T> T shuffle(T v, unsigned lane, int site) {
    static_assert(sizeof(T) <= 8, "");
    const unsigned warp = current & ~31u;
    auto &buffer = exchange[parity[current] ^= 1];
    memcpy(buffer[current].bytes, &v, sizeof v);
    const unsigned from = lane < 32 && warp + lane < threads ? warp + lane : current;
    wait(WARP_BARRIER, site);
    T result;
    memcpy(&result, buffer[from].bytes, sizeof result);
    return result;
}
inline int any(int v, int site) {
    for (unsigned o = 16; o; o >>= 1) v |= shuffle(v, (current & 31) ^ o, site);
    return v != 0;
}
template <typename... A, size_t... I>
int call(void (*kernel)(A...), unsigned blocks, unsigned count, size_t bytes, void **arguments,
         std::index_sequence<I...>) {
    kernel_of_body = reinterpret_cast<void *>(kernel);
    arguments_of_body = arguments;
    body = [](void *k, void **a) { reinterpret_cast<void (*)(A...)>(k)(*static_cast<std::remove_const_t<A> *>(a[I])...); };
    return launch(blocks, count, bytes);
}
template <typename... A>
int call(void (*kernel)(A...), unsigned blocks, unsigned count, size_t bytes, void **arguments) {
    return call(kernel, blocks, count, bytes, arguments, std::index_sequence_for<A...>());
}
}  // namespace shim

#define blockIdx shim::block_index
#define blockDim shim::block_size
#define gridDim shim::grid_size
#define threadIdx shim::thread_index
#define __syncthreads() shim::wait(shim::BLOCK_BARRIER, __LINE__)
#define __syncwarp(...) shim::wait(shim::WARP_BARRIER, __LINE__)
#define __threadfence() ((void)0)
// Rounded by themselves, whatever the compiler may fuse.
inline float __fmul_rn(float a, float b) {
    volatile float rounded = a * b;
    return rounded;
}
inline double __dmul_rn(double a, double b) {
    volatile double rounded = a * b;
    return rounded;
}
#define __shfl_sync(mask, v, lane) shim::shuffle(v, lane, __LINE__)
#define __shfl_xor_sync(mask, v, bits) shim::shuffle(v, (shim::current & 31) ^ (bits), __LINE__)
#define __shfl_down_sync(mask, v, by) shim::shuffle(v, (shim::current & 31) + (by), __LINE__)
#define __any_sync(mask, v) shim::any(v, __LINE__)
template <typename T> T atomicAdd(T *p, T v) {
    const T old = *p;
    *p += v;
    return old;
}
template <typename T> T atomicMin(T *p, T v) {
    const T old = *p;
    *p = v < old ? v : old;
    return old;
}
