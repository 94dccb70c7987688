// The instructions that matrix products are made of, for compute capability 8.0 and up (PTX ISA, 9.7.9.25 and 9.7.14.5).
#ifndef DLC_INSTRUCTIONS
#define DLC_INSTRUCTIONS
namespace dlc {

enum Units { SCALAR, TF32, FLOAT16, BFLOAT16 };

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return (unsigned)__cvta_generic_to_shared(pointer);
}

// Starts copying Bytes from global to shared memory; zeros where it is not inside. Two bytes are copied at once.
template <int Bytes> __device__ __forceinline__ void start_copy(void* to, const void* from, bool inside) {
  if constexpr (Bytes == 2) {
    *(unsigned short*)to = inside ? *(const unsigned short*)from : (unsigned short)0;
  } else if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "n"(Bytes), "r"(inside ? Bytes : 0) : "memory");
  }
}

// Closes a group of copies.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the latest Open groups of this thread's copies are done.
template <int Open> __device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Open) : "memory");
}

// Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8 and gets, of each, word l % 4 of row l / 4.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

// The same for matrices of 8 x 8 numbers of 16 bits, turned: lane l gets column l / 4, rows 2 (l % 4) and the next.
__device__ __forceinline__ void load_turned_matrices(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

// sums [16, 8] += a [16, 32 bytes] b [32 bytes, 8] by a warp.
template <int units> __device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#define DLC_MULTIPLY(shape, type)                                                                                 \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, " \
               "{%8, %9}, {%0, %1, %2, %3};"                                                                      \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (units == TF32) {
    DLC_MULTIPLY("m16n8k8", "tf32");
  } else if constexpr (units == FLOAT16) {
    DLC_MULTIPLY("m16n8k16", "f16");
  } else {
    DLC_MULTIPLY("m16n8k16", "bf16");
  }
#undef DLC_MULTIPLY
}

}  // namespace dlc
#endif  // DLC_INSTRUCTIONS
