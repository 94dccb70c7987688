// CUDA on a processor, for tests: each thread of a block is a coroutine, and barriers and shuffles switch between them.
#include <cstdint>
#include <cmath>
#include <cstring>
#include <cstdlib>
#include <algorithm>
#include <vector>
#include <ucontext.h>
using std::max; using std::min;
struct dim3_ { unsigned x, y, z; };
static dim3_ threadIdx, blockIdx;
using uchar = unsigned char; using ushort = unsigned short; using uint = unsigned int;
#define VECTORS(T, N) \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; }; \
  struct alignas(4 * sizeof(T)) N##4 { T x, y, z, w; }; \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; } \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float) VECTORS(int, int) VECTORS(uint, uint) VECTORS(uchar, uchar) VECTORS(ushort, ushort)
VECTORS(signed char, char) VECTORS(double, double)
#define CUDART_INF_F INFINITY
#define CUDART_NAN_F NAN
#define __global__
#define __device__
#define __shared__ static
#define __restrict__
#define __forceinline__ inline
#define __launch_bounds__(...)
static std::vector<ucontext_t> fibres; static std::vector<char> done; static ucontext_t home; static int current;
static unsigned exchanged[2048];
static void rest() { swapcontext(&fibres[current], &home); }
static inline void __syncthreads() { rest(); }
static inline void __syncwarp(unsigned = 0) { rest(); }
static inline unsigned __activemask() { return 0xffffffffu; }
template <class T> static inline T other(T value, int lane_of) {
  memcpy(&exchanged[current], &value, sizeof(T)); rest();
  T result; memcpy(&result, &exchanged[current / 32 * 32 + lane_of], sizeof(T)); rest(); return result; }
template <class T> static inline T __shfl_down_sync(unsigned, T v, int d, int w = 32) { int l = current % 32; return other(v, l % w + d < w ? l + d : l); }
template <class T> static inline T __shfl_up_sync(unsigned, T v, int d, int w = 32) { int l = current % 32; return other(v, l % w - d >= 0 ? l - d : l); }
template <class T> static inline T __shfl_sync(unsigned, T v, int s, int w = 32) { int l = current % 32; return other(v, l / w * w + s % w); }
template <class T> static inline T __ldg(const T* p) { return *p; }
#define __expf expf
#define __logf logf
#define __powf powf
#define __uint_as_float(u) ([](unsigned x){float f; memcpy(&f,&x,4); return f;}(u))
#define __float_as_uint(u) ([](float x){unsigned f; memcpy(&f,&x,4); return f;}(u))
static void (*body)();
static dim3_ shape;
static void enter() { body(); done[current] = 1; swapcontext(&fibres[current], &home); }
static void emulate(void (*f)(), dim3_ grid, dim3_ block) {
  body = f; shape = block; int n = block.x * block.y * block.z; fibres.resize(n); const int STACK = 131072;
  char* stacks = (char*)malloc((size_t)n * STACK);
  for (unsigned z = 0; z < grid.z; z++) for (unsigned y = 0; y < grid.y; y++) for (unsigned x = 0; x < grid.x; x++) {
    blockIdx = {x, y, z}; done.assign(n, 0);
    for (int i = 0; i < n; i++) { getcontext(&fibres[i]); fibres[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
      fibres[i].uc_stack.ss_size = STACK; fibres[i].uc_link = &home; makecontext(&fibres[i], enter, 0); }
    for (bool more = true; more;) { more = false;
      for (int i = 0; i < n; i++) if (!done[i]) { current = i;
        threadIdx = {i % block.x, i / block.x % block.y, i / (block.x * block.y)}; swapcontext(&home, &fibres[i]); more |= !done[i]; } } }
  free(stacks); }
