// Products of matrices by tensor cores (fp16, bf16, tf32) or in exact float32, with float32 sums.
//
// A block of threads computes one tile of M x N. Tiles of both factors flow through `stages` places in shared memory: copies of
// the next ones run while one is multiplied. At the end the sums lie in shared memory, [rows, columns + 8].
#ifndef DLC_PRODUCT
#define DLC_PRODUCT
namespace dlc {

enum Kind { FORWARD, BY_IMAGE, BY_WEIGHT };

template <class S> using TileA =
    Tile<typename S::Element, S::kind == BY_WEIGHT ? S::tile_depth : S::tile_rows,
         S::kind == BY_WEIGHT ? S::tile_rows : S::tile_depth, S::vector_a, S::threads, S::kind != BY_WEIGHT>;
template <class S> using TileB =
    Tile<typename S::Element, S::kind == FORWARD ? S::tile_columns : S::tile_depth,
         S::kind == FORWARD ? S::tile_depth : S::tile_columns, S::vector_b, S::threads, S::kind == FORWARD>;

// A warp's part of a tile: fragments of 16 x 8 sums.
template <class S> struct Fragments {
  using Element = typename S::Element;
  static constexpr int rows = S::tile_rows / S::warps_down, columns = S::tile_columns / S::warps_across;
  static constexpr int down = rows / 16, across = columns / 8, step = 32 / (int)sizeof(Element);
  static_assert(S::threads == 32 * S::warps_down * S::warps_across && across % 2 == 0, "warps share the tile out");
  float sums[down][across][4];
  int lane, row, column;

  __device__ __forceinline__ Fragments(int thread) {
    lane = thread % 32;
    row = thread / 32 / S::warps_across * rows;
    column = thread / 32 % S::warps_across * columns;
#pragma unroll
    for (int i = 0; i < down; i++)
#pragma unroll
      for (int j = 0; j < across; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;
  }

  __device__ __forceinline__ void load_a(unsigned (&a)[4], const Element* tile, int m, int k) const {
    if constexpr (S::kind != BY_WEIGHT) {
      load_matrices(a, tile + (m + lane % 16) * TileA<S>::stride + k + lane / 16 * (step / 2));
    } else if constexpr (sizeof(Element) == 2) {
      load_turned_matrices(a, tile + (k + lane / 16 * 8 + lane % 8) * TileA<S>::stride + m + lane / 8 % 2 * 8);
    } else {
      const Element* at = tile + (k + lane % 4) * TileA<S>::stride + m + lane / 4;
#pragma unroll
      for (int e = 0; e < 4; e++) a[e] = __float_as_uint(at[e / 2 * 4 * TileA<S>::stride + e % 2 * 8]);
    }
  }

  // Two neighbouring fragments: 16 columns.
  __device__ __forceinline__ void load_b(unsigned (&b)[4], const Element* tile, int n, int k) const {
    if constexpr (S::kind == FORWARD) {
      load_matrices(b, tile + (n + lane / 16 * 8 + lane % 8) * TileB<S>::stride + k + lane / 8 % 2 * (step / 2));
    } else if constexpr (sizeof(Element) == 2) {
      load_turned_matrices(b, tile + (k + lane / 8 % 2 * 8 + lane % 8) * TileB<S>::stride + n + lane / 16 * 8);
    } else {
      const Element* at = tile + (k + lane % 4) * TileB<S>::stride + n + lane / 4;
#pragma unroll
      for (int e = 0; e < 4; e++) b[e] = __float_as_uint(at[e % 2 * 4 * TileB<S>::stride + e / 2 * 8]);
    }
  }

  __device__ __forceinline__ void add(const Element* a_tile, const Element* b_tile) {
#pragma unroll
    for (int k = 0; k < S::tile_depth; k += step) {
      unsigned a[down][4], b[across / 2][4];
#pragma unroll
      for (int i = 0; i < down; i++) load_a(a[i], a_tile, row + i * 16, k);
#pragma unroll
      for (int j = 0; j < across / 2; j++) load_b(b[j], b_tile, column + j * 16, k);
#pragma unroll
      for (int i = 0; i < down; i++)
#pragma unroll
        for (int j = 0; j < across; j++) multiply<S::units>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }

  __device__ __forceinline__ void store(float* tile) const {
    constexpr int stride = S::tile_columns + 8;
#pragma unroll
    for (int i = 0; i < down; i++)
#pragma unroll
      for (int j = 0; j < across; j++) {
        float* at = tile + (row + i * 16 + lane / 4) * stride + column + j * 8 + lane % 4 * 2;
        *(float2*)at = make_float2(sums[i][j][0], sums[i][j][1]);
        *(float2*)(at + 8 * stride) = make_float2(sums[i][j][2], sums[i][j][3]);
      }
  }
};

// A thread's part of a tile in exact float32: rows x columns sums. Where lines run along K a thread has every so many of them,
// else groups of four neighbours, which is what one 16-byte read brings.
template <class S> struct Sums {
  static constexpr int across = S::warps_across, down = S::warps_down;  // threads
  static constexpr int rows = S::tile_rows / down, columns = S::tile_columns / across;
  static_assert(S::threads == down * across && rows % 4 == 0 && columns % 4 == 0, "threads share the tile out");
  float sums[rows][columns];
  int y, x;

  __device__ __forceinline__ Sums(int thread) : y(thread / across), x(thread % across) {
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
      for (int j = 0; j < columns; j++) sums[i][j] = 0.0f;
  }

  template <bool along> static __device__ __forceinline__ int place(int own, int i, int threads) {
    return along ? own + i * threads : (i / 4 * threads + own) * 4 + i % 4;
  }
  __device__ __forceinline__ int row(int i) const { return place<S::kind != BY_WEIGHT>(y, i, down); }
  __device__ __forceinline__ int column(int j) const { return place<S::kind == FORWARD>(x, j, across); }

  // Four numbers along K of each of `count` lines.
  template <class T, int count, bool along>
  static __device__ __forceinline__ void load(float (&to)[count][4], const float* tile, int own, int threads, int k) {
#pragma unroll
    for (int i = 0; i < count; i++) {
      if constexpr (along) {
        float4 four = *(const float4*)(tile + place<along>(own, i, threads) * T::stride + k);
        to[i][0] = four.x, to[i][1] = four.y, to[i][2] = four.z, to[i][3] = four.w;
      } else {
        int first = i / 4 * 4, e = i % 4;  // element e of the four lines' four neighbours
        float4 four = *(const float4*)(tile + (k + e) * T::stride + place<along>(own, first, threads));
        to[first][e] = four.x, to[first + 1][e] = four.y, to[first + 2][e] = four.z, to[first + 3][e] = four.w;
      }
    }
  }

  __device__ __forceinline__ void add(const float* a_tile, const float* b_tile) {
#pragma unroll 2
    for (int k = 0; k < S::tile_depth; k += 4) {
      float a[rows][4], b[columns][4];
      load<TileA<S>, rows, S::kind != BY_WEIGHT>(a, a_tile, y, down, k);
      load<TileB<S>, columns, S::kind == FORWARD>(b, b_tile, x, across, k);
#pragma unroll
      for (int e = 0; e < 4; e++)
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
          for (int j = 0; j < columns; j++) sums[i][j] += a[i][e] * b[j][e];
    }
  }

  __device__ __forceinline__ void store(float* tile) const {
    constexpr int stride = S::tile_columns + 8;
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
      for (int j = 0; j < columns; j++) tile[row(i) * stride + column(j)] = sums[i][j];
  }
};

template <bool scalar, class S> struct Chosen {
  using Type = Fragments<S>;
};
template <class S> struct Chosen<true, S> {
  using Type = Sums<S>;
};

// The tiles of K that belong to a block, multiplied and added up.
template <class S, class A, class B>
__device__ __forceinline__ void accumulate(float* shared, const A& a, const B& b, int first, int last, int thread) {
  using Element = typename S::Element;
  Element* stages = (Element*)shared;
  constexpr int size = TileA<S>::size + TileB<S>::size;
  typename Chosen<S::units == SCALAR, S>::Type sums(thread);
#pragma unroll
  for (int s = 0; s < S::stages - 1; s++) {
    if (first + s < last) {
      a.copy(stages + s * size, (first + s) * S::tile_depth);
      b.copy(stages + s * size + TileA<S>::size, (first + s) * S::tile_depth);
    }
    close_copies();
  }
  int place = 0, next = S::stages - 1;
  for (int t = first; t < last; t++) {
    wait_for_copies<S::stages - 2>();
    __syncthreads();
    if (t + S::stages - 1 < last) {
      a.copy(stages + next * size, (t + S::stages - 1) * S::tile_depth);
      b.copy(stages + next * size + TileA<S>::size, (t + S::stages - 1) * S::tile_depth);
    }
    close_copies();
    sums.add(stages + place * size, stages + place * size + TileA<S>::size);
    place = place + 1 == S::stages ? 0 : place + 1;
    next = next + 1 == S::stages ? 0 : next + 1;
  }
  wait_for_copies<0>();
  __syncthreads();
  sums.store(shared);
  __syncthreads();
}

// One tile of a product. `block` counts tiles, neighbours in N first; `part` groups and phases; `split` parts of K.
template <class S>
__device__ __forceinline__ void product(void* memory, const void* left, const void* right, int batch, int block, int piece, int split) {
  using Element = typename S::Element;
  const Element *a = (const Element*)left + S::start_a, *b = (const Element*)right + S::start_b;
  float* shared = (float*)memory;
  int thread = ((int)threadIdx.x);
  Part<S> part(piece);
  constexpr int across = (S::n + S::tile_columns - 1) / S::tile_columns;
  int row = block / across * S::tile_rows, column = block % across * S::tile_columns;
  int depth = part.depth(batch);
  int tiles = (depth + S::tile_depth - 1) / S::tile_depth, each = (tiles + S::splits - 1) / S::splits;
  int first = split * each, last = min(first + each, tiles);
  if constexpr (S::kind == FORWARD) {
    Pixels<S, TileA<S>> pixels(a, row, batch * (S::grid_rows * S::grid_columns), part, depth, thread);
    WeightRows<S, TileB<S>> weights(b, column, part, depth, thread);
    accumulate<S>(shared, pixels, weights, first, last, thread);
  } else if constexpr (S::kind == BY_IMAGE) {
    Pixels<S, TileA<S>> pixels(a, row, batch * (S::grid_rows * S::grid_columns), part, depth, thread);
    WeightColumns<S, TileB<S>> weights(b, column, part, depth, thread);
    accumulate<S>(shared, pixels, weights, first, last, thread);
  } else {
    Upstream<S, TileA<S>> upstream(a, row, part, depth, thread);
    Windows<S, TileB<S>> windows(b, column, part, depth, thread);
    accumulate<S>(shared, upstream, windows, first, last, thread);
  }
}

}  // namespace dlc
#endif  // DLC_PRODUCT
