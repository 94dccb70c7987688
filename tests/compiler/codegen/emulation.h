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
using half = _Float16;
struct nv_bfloat16 { unsigned short bits; nv_bfloat16() = default;
  nv_bfloat16(float f) { unsigned u; memcpy(&u, &f, 4); bits = f == f ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : 0x7fc0; }
  operator float() const { unsigned u = bits << 16; float f; memcpy(&f, &u, 4); return f; } };
#define VECTORS(T, N) \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; }; \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) N##4 { T x, y, z, w; }; \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; } \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float) VECTORS(int, int) VECTORS(uint, uint) VECTORS(uchar, uchar) VECTORS(ushort, ushort)
VECTORS(signed char, char) VECTORS(double, double) VECTORS(half, half) VECTORS(nv_bfloat16, nv_bfloat16)
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
struct Barrier { int waiting = 0, rounds = 0, threads = 0;
  void release() { if (threads && waiting == threads) { waiting = 0; rounds++; } }
  void wait() { int round = rounds; waiting++; release(); do rest(); while (round == rounds); } };  // all go on in step
static Barrier all; static Barrier warps[32];
static inline void __syncthreads() { all.wait(); }
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
static void enter() { body(); done[current] = 1; all.threads--; all.release(); swapcontext(&fibres[current], &home); }
static int backwards;  // which thread of a block runs first: the last one
extern "C" void run_backwards(int yes) { backwards = yes; }
alignas(128) static char dynamic_shared[256 * 1024];
static void emulate(void (*f)(), dim3_ grid, dim3_ block) {
  memset(dynamic_shared, 0xff, sizeof dynamic_shared);
  body = f; shape = block; int n = block.x * block.y * block.z; fibres.resize(n); const int STACK = 131072;
  char* stacks = (char*)malloc((size_t)n * STACK);
  for (unsigned z = 0; z < grid.z; z++) for (unsigned y = 0; y < grid.y; y++) for (unsigned x = 0; x < grid.x; x++) {
    blockIdx = {x, y, z}; done.assign(n, 0); all = Barrier(); all.threads = n;
    for (int w = 0; w < 32; w++) { warps[w] = Barrier(); warps[w].threads = min(32, n - 32 * w); }
    for (int i = 0; i < n; i++) { getcontext(&fibres[i]); fibres[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
      fibres[i].uc_stack.ss_size = STACK; fibres[i].uc_link = &home; makecontext(&fibres[i], enter, 0); }
    for (bool more = true; more;) { more = false;
      for (int k = 0; k < n; k++) if (int i = backwards ? n - 1 - k : k; !done[i]) { current = i;
        threadIdx = {i % block.x, i / block.x % block.y, i / (block.x * block.y)}; swapcontext(&home, &fibres[i]); more |= !done[i]; } } }
  free(stacks); }

// What instructions.cuh does, after the PTX ISA's layouts. Copies are made when they are waited for; until then their place is unusable.
namespace dlc {
enum Units { SCALAR, TF32, FLOAT16, BFLOAT16 };
struct Copy { void* to; const void* from; int bytes; bool inside; };
static std::vector<std::vector<Copy>> copies[1024];
static void copy_now(const Copy& c) { if (c.inside) memcpy(c.to, c.from, c.bytes); else memset(c.to, 0, c.bytes); }
template <int Bytes> static void start_copy(void* to, const void* from, bool inside) {
  if ((size_t)to % Bytes || (inside && (size_t)from % Bytes)) abort();
  if (Bytes == 2) return copy_now({to, from, Bytes, inside});
  memset(to, 0xff, Bytes);
  if (copies[current].empty()) copies[current].emplace_back();
  copies[current].back().push_back({to, from, Bytes, inside}); }
static void close_copies() { if (copies[current].empty()) copies[current].emplace_back(); copies[current].emplace_back(); }
template <int Open> static void wait_for_copies() {
  auto& groups = copies[current];
  while ((int)groups.size() > Open + 1) { for (auto& c : groups.front()) copy_now(c); groups.erase(groups.begin()); } }
struct Lane { const char* row; unsigned a[4], b[2]; };
static Lane lanes[2][1024]; static int turns[1024];
static Lane* meet(const Lane& own) {
  int turn = turns[current]++ % 2; lanes[turn][current] = own; warps[current / 32].wait(); return &lanes[turn][current / 32 * 32]; }
static void load_matrices(unsigned (&to)[4], const void* row) {
  if ((size_t)row % 16) abort();
  Lane* w = meet({(const char*)row}); int lane = current % 32;
  for (int j = 0; j < 4; j++) memcpy(&to[j], w[j * 8 + lane / 4].row + lane % 4 * 4, 4); }
static void load_turned_matrices(unsigned (&to)[4], const void* row) {
  if ((size_t)row % 16) abort();
  Lane* w = meet({(const char*)row}); int lane = current % 32;
  for (int j = 0; j < 4; j++) for (int e = 0; e < 2; e++)
    memcpy((char*)&to[j] + 2 * e, w[j * 8 + lane % 4 * 2 + e].row + lane / 4 * 2, 2); }
static float single(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
static float of_half(unsigned h) {
  unsigned e = h >> 10 & 31, m = h & 1023; float s = h >> 15 ? -1.f : 1.f;
  return e == 31 ? s * (m ? NAN : INFINITY) : e ? s * ldexpf(1024 + m, (int)e - 25) : s * ldexpf(m, -24); }
template <int units> static float factor(const unsigned* words, int k) {  // number k of a line of 32 bytes, as lanes 0..3 hold it
  if (units == TF32) return single(words[k] & ~0x1fffu);
  unsigned h = words[k / 2] >> k % 2 * 16 & 0xffff;
  return units == FLOAT16 ? of_half(h) : single(h << 16); }
template <int units> static void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  Lane* w = meet({nullptr, {a[0], a[1], a[2], a[3]}, {b0, b1}}); int g = current % 32 / 4, t = current % 4;
  for (int e = 0; e < 4; e++) {
    unsigned left[8], right[8]; int n = t * 2 + e % 2;
    for (int k = 0; k < 8; k++) { left[k] = w[g * 4 + k % 4].a[e / 2 + k / 4 * 2]; right[k] = w[n * 4 + k % 4].b[k / 4]; }
    for (int k = 0; k < (units == TF32 ? 8 : 16); k++) sums[e] += factor<units>(left, k) * factor<units>(right, k); } }
}
