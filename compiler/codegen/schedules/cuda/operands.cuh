// How the factors of a product reach shared memory: tiles of a matrix of which nothing lies in global memory but images and weights.
//
// S holds the constants of one product (see the module product). A tile is stored in lines: along K where memory is contiguous
// along it, else across. Lines are longer than the tile is wide, so that a warp's reads meet each bank once.
#ifndef DLC_OPERANDS
#define DLC_OPERANDS
namespace dlc {

template <class Element_, int lines_, int width_, int vector_, int threads, bool along> struct Tile {
  using Element = Element_;
  static constexpr int lines = lines_, width = width_, vector = vector_;
  static constexpr int stride = width + (along ? 16 / (int)sizeof(Element) : 8);
  static constexpr int size = lines * stride;
  static constexpr int across = width / vector, down = threads / across, passes = (lines + down - 1) / down;
  static_assert(threads % across == 0 && passes <= 32, "the threads copy whole lines");

  static __device__ __forceinline__ int first_line(int thread) { return thread / across; }
  static __device__ __forceinline__ int column(int thread) { return thread % across * vector; }
  static __device__ __forceinline__ void copy(Element* stage, int thread, int pass, const Element* from, bool inside) {
    int line = thread / across + pass * down;
    if (lines % down == 0 || line < lines)
      start_copy<vector * (int)sizeof(Element)>(stage + line * stride + thread % across * vector, from, inside);
  }
};

// Which part of a product a block computes: the phase of a strided gradient by the image, and the group of channels.
template <class S> struct Part {
  int group, phase_row, phase_column, taps_down, taps_across;
  __device__ __forceinline__ Part(int part) {
    group = S::groups == 1 ? 0 : part % S::groups;
    int phase = S::phase_rows * S::phase_columns == 1 ? 0 : part / S::groups;
    phase_row = phase / S::phase_columns, phase_column = phase % S::phase_columns;
    taps_down = (S::kernel_rows - phase_row + S::phase_rows - 1) / S::phase_rows;
    taps_across = (S::kernel_columns - phase_column + S::phase_columns - 1) / S::phase_columns;
  }
  // The extent of K.
  __device__ __forceinline__ int depth(int batch) const {
    return S::kind == 2 ? batch * (S::grid_rows * S::grid_columns) : taps_down * taps_across * S::depth;
  }
};

// One number of k as (i, j, c): an element of the kernel, a channel.
template <class S> struct Tap {
  int i, j, c;
  __device__ __forceinline__ Tap(int k, const Part<S>& part) {
    int tap = k / S::depth;
    c = k - tap * S::depth;
    int across = S::phase_columns == 1 ? S::kernel_columns : max(part.taps_across, 1);
    i = tap / across;
    j = tap - i * across;
  }
};

// The offset of weight [o, i, j, c] within a group.
template <class S> __device__ __forceinline__ int weight_offset(int o, int i, int j, int c) {
  return S::canonical ? ((o * S::inputs + c) * S::kernel_rows + i) * S::kernel_columns + j
                      : ((o * S::kernel_rows + i) * S::kernel_columns + j) * S::inputs + c;
}

// M: positions of the result; K: (i, j, c) of the source under them. Lines along K.
template <class S, class T> struct Pixels {
  using Element = typename S::Element;
  const Element* source;
  const Part<S>& part;
  int thread, depth, corner[T::passes], offset[T::passes];
  unsigned rows = 0;

  __device__ __forceinline__ Pixels(const Element* image, int first, int count, const Part<S>& part, int depth, int thread)
      : part(part), thread(thread), depth(depth) {
    constexpr int positions = S::grid_rows * S::grid_columns;
    int sample = first / positions;
    source = image + (long long)sample * (S::source_rows * S::source_columns * S::source_channels) + part.group * S::depth;
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      int m = first + T::first_line(thread) + p * T::down;
      int n = m / positions, at = m - n * positions;
      int y = at / S::grid_columns * S::move_rows + S::shift_rows;
      int x = at % S::grid_columns * S::move_columns + S::shift_columns;
      corner[p] = (int)((unsigned)y << 16 | ((unsigned)x & 0xffffu));
      offset[p] = (((n - sample) * S::source_rows + y) * S::source_columns + x) * S::source_channels;
      rows |= (unsigned)(m < count) << p;
    }
  }

  __device__ __forceinline__ void copy(Element* stage, int start) const {
    int k = start + T::column(thread);
    Tap<S> tap(k, part);
    int down = tap.i * S::step_rows, right = tap.j * S::step_columns;
    int delta = (down * S::source_columns + right) * S::source_channels + tap.c;
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      bool inside = k < depth && (rows >> p & 1);
      if (S::bounded) {
        int y = (corner[p] >> 16) + down, x = (short)corner[p] + right;
        inside = inside && (unsigned)y < (unsigned)S::source_rows && (unsigned)x < (unsigned)S::source_columns;
      }
      T::copy(stage, thread, p, inside ? source + offset[p] + delta : source, inside);
    }
  }
};

// N: channels of the result; K: (i, j, c). Lines along K.
template <class S, class T> struct WeightRows {
  using Element = typename S::Element;
  const Element* source;
  const Part<S>& part;
  int thread, depth, first;

  __device__ __forceinline__ WeightRows(const Element* weight, int first, const Part<S>& part, int depth, int thread)
      : part(part), thread(thread), depth(depth), first(first) {
    source = weight + (long long)part.group * S::outputs * S::kernel_rows * S::kernel_columns * S::inputs;
  }

  __device__ __forceinline__ void copy(Element* stage, int start) const {
    constexpr int taps = S::kernel_rows * S::kernel_columns;
    int k = start + T::column(thread);
    int within = k;
    if (S::canonical && taps > 1) {
      Tap<S> tap(k, part);
      within = weight_offset<S>(0, tap.i, tap.j, tap.c);
    }
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      int o = first + T::first_line(thread) + p * T::down;
      bool inside = k < depth && (S::outputs % T::lines == 0 || o < S::outputs);
      T::copy(stage, thread, p, inside ? source + o * (taps * S::inputs) + within : source, inside);
    }
  }
};

// N: channels of the image; K: (i, j, o), the kernel's elements of one phase. Lines across K.
template <class S, class T> struct WeightColumns {
  using Element = typename S::Element;
  const Element* source;
  const Part<S>& part;
  int thread, depth, c;

  __device__ __forceinline__ WeightColumns(const Element* weight, int first, const Part<S>& part, int depth, int thread)
      : part(part), thread(thread), depth(depth), c(first + T::column(thread)) {
    source = weight + (long long)part.group * S::outputs * S::kernel_rows * S::kernel_columns * S::inputs;
  }

  __device__ __forceinline__ int at(const Tap<S>& tap) const {
    return weight_offset<S>(tap.c, part.phase_row + tap.i * S::phase_rows, part.phase_column + tap.j * S::phase_columns, c);
  }

  __device__ __forceinline__ void copy(Element* stage, int start) const {
    constexpr bool uniform = S::depth % T::lines == 0;  // the lines of a tile belong to one element of the kernel
    int common = 0;
    if (uniform) {
      Tap<S> tap(start, part);
      tap.c += T::first_line(thread);
      common = at(tap);
    }
    constexpr int next = S::kernel_rows * S::kernel_columns * S::inputs;
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      int k = start + T::first_line(thread) + p * T::down;
      bool inside = k < depth && (S::inputs % T::width == 0 || c < S::inputs);
      int offset = uniform ? common + p * T::down * next : at(Tap<S>(k, part));
      T::copy(stage, thread, p, inside ? source + offset : source, inside);
    }
  }
};

// M: channels of the result; K: its positions. Lines across K.
template <class S, class T> struct Upstream {
  using Element = typename S::Element;
  const Element* source;
  int thread, depth, o;

  __device__ __forceinline__ Upstream(const Element* upstream, int first, const Part<S>& part, int depth, int thread)
      : thread(thread), depth(depth), o(first + T::column(thread)) {
    source = upstream + part.group * S::outputs;
  }

  __device__ __forceinline__ void copy(Element* stage, int start) const {
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      int k = start + T::first_line(thread) + p * T::down;
      bool inside = k < depth && (S::outputs % T::width == 0 || o < S::outputs);
      T::copy(stage, thread, p, inside ? source + (long long)k * S::upstream_channels + o : source, inside);
    }
  }
};

// N: (i, j, c) of the source; K: positions of the result. Lines across K.
template <class S, class T> struct Windows {
  using Element = typename S::Element;
  const Element* source;
  int thread, depth, down, right;
  bool within;

  __device__ __forceinline__ Windows(const Element* image, int first, const Part<S>& part, int depth, int thread)
      : thread(thread), depth(depth) {
    int n = first + T::column(thread);
    Tap<S> tap(n, part);
    within = n < S::kernel_rows * S::kernel_columns * S::inputs;
    down = tap.i * S::step_rows + S::shift_rows;
    right = tap.j * S::step_columns + S::shift_columns;
    source = image + part.group * S::inputs + tap.c;
  }

  __device__ __forceinline__ void copy(Element* stage, int start) const {
    constexpr int positions = S::grid_rows * S::grid_columns;
#pragma unroll
    for (int p = 0; p < T::passes; p++) {
      int k = start + T::first_line(thread) + p * T::down;
      bool inside = k < depth && within;
      long long at = k;
      if (!S::pointwise) {
        int n = k / positions, rest = k - n * positions;
        int y = rest / S::grid_columns * S::move_rows + down, x = rest % S::grid_columns * S::move_columns + right;
        if (S::bounded) inside = inside && (unsigned)y < (unsigned)S::source_rows && (unsigned)x < (unsigned)S::source_columns;
        at = (long long)(n * S::source_rows + y) * S::source_columns + x;
      }
      T::copy(stage, thread, p, inside ? source + at * S::source_channels : source, inside);
    }
  }
};

}  // namespace dlc
#endif  // DLC_OPERANDS
