/* cuBLASLt without a card: products are made on the host, over the stand-in driver's memory, and layouts are checked. float32 and bfloat16.
 *
 * Where STAND_IN_COUNTS is set nothing is multiplied: STAND_IN_REPORT receives the line `launch cublaslt` for each product, and `workspace ADDRESS`
 * where that is another one than before.
 *
 * STAND_IN_PRODUCT_FAILS, a number: the product of that number, from 0, is not made and gives an error.
 *
 * STAND_IN_NO_ALGORITHM, a number: there is no algorithm for products with so many rows or columns; for none at all where it is 0. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status; /* cublasStatus_t */
enum { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15, R_32F = 0, R_16BF = 14 };

typedef struct { int type; uint64_t rows, columns; int64_t leading; } Layout;
typedef struct { int compute, scale, transpose_a, transpose_b; } Descriptor;
typedef struct { uint64_t algorithm[8]; size_t workspace; Status state; float waves; int reserved[4]; } Heuristic;

Status cublasLtCreate(void **handle) { return *handle = malloc(1), SUCCESS; }
Status cublasLtMatmulDescCreate(void **descriptor, int compute, int scale) {
  Descriptor *made = calloc(1, sizeof *made);
  made->compute = compute, made->scale = scale;
  return *descriptor = made, SUCCESS;
}
Status cublasLtMatmulDescSetAttribute(Descriptor *descriptor, int attribute, const void *value, size_t size) {
  if (size != 4) return INVALID_VALUE;
  if (attribute == 3) memcpy(&descriptor->transpose_a, value, 4);
  else if (attribute == 4) memcpy(&descriptor->transpose_b, value, 4);
  else return INVALID_VALUE;
  return SUCCESS;
}
Status cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if ((type != R_32F && type != R_16BF) || leading < (int64_t)rows) return INVALID_VALUE;
  Layout *made = malloc(sizeof *made);
  *made = (Layout){type, rows, columns, leading};
  return *layout = made, SUCCESS;
}
Status cublasLtMatmulPreferenceCreate(void **preference) { return *preference = malloc(1), SUCCESS; }
Status cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t size) {
  return attribute == 1 && size == sizeof(size_t) ? SUCCESS : INVALID_VALUE;
}

static int do_match(const Descriptor *descriptor, const Layout *a, const Layout *b, const Layout *c, const Layout *d) {
  uint64_t rows = descriptor->transpose_a ? a->columns : a->rows, depth = descriptor->transpose_a ? a->rows : a->columns;
  uint64_t depth_b = descriptor->transpose_b ? b->columns : b->rows, columns = descriptor->transpose_b ? b->rows : b->columns;
  return depth == depth_b && rows == d->rows && columns == d->columns && c->rows == d->rows && c->columns == d->columns &&
         c->type == d->type && a->type == b->type && descriptor->scale == R_32F;
}
Status cublasLtMatmulAlgoGetHeuristic(void *handle, Descriptor *descriptor, Layout *a, Layout *b, Layout *c, Layout *d, void *preference,
                                      int wanted, Heuristic *results, int *count) {
  if (!do_match(descriptor, a, b, c, d) || wanted < 1) return INVALID_VALUE;
  const char *refused = getenv("STAND_IN_NO_ALGORITHM");
  uint64_t size = refused ? strtoull(refused, NULL, 10) : 0;
  if (refused && (!size || d->rows == size || d->columns == size)) return *count = 0, NOT_SUPPORTED;
  memset(results, 0, sizeof *results);
  return *count = 1, SUCCESS;
}

static float read_value(const void *values, const Layout *layout, uint64_t row, uint64_t column) {
  uint64_t at = column * layout->leading + row;
  if (layout->type == R_32F) return ((const float *)values)[at];
  uint32_t bits = (uint32_t)((const uint16_t *)values)[at] << 16;
  float value;
  return memcpy(&value, &bits, 4), value;
}
static void write_value(void *values, const Layout *layout, uint64_t row, uint64_t column, float value) {
  uint64_t at = column * layout->leading + row;
  if (layout->type == R_32F) {
    ((float *)values)[at] = value;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, 4);
  ((uint16_t *)values)[at] = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
Status cublasLtMatmul(void *handle, Descriptor *descriptor, const float *alpha, const void *a, Layout *a_layout, const void *b, Layout *b_layout,
                      const float *beta, const void *c, Layout *c_layout, void *d, Layout *d_layout, const void *algorithm, void *workspace,
                      size_t workspace_size, void *stream) {
  if (!do_match(descriptor, a_layout, b_layout, c_layout, d_layout) || !stream || !workspace) return INVALID_VALUE;
  static int made;
  const char *fails = getenv("STAND_IN_PRODUCT_FAILS");
  if (fails && atoi(fails) == made++) return EXECUTION_FAILED;
  if (getenv("STAND_IN_COUNTS")) {
    static FILE *report;
    if (!report) setvbuf(report = fopen(getenv("STAND_IN_REPORT"), "a"), NULL, _IOLBF, 256);
    static void *last;
    if (workspace != last) fprintf(report, "workspace %p\n", last = workspace);
    return fputs("launch cublaslt\n", report), SUCCESS;
  }
  uint64_t depth = descriptor->transpose_a ? a_layout->rows : a_layout->columns;
  for (uint64_t row = 0; row < d_layout->rows; row++)
    for (uint64_t column = 0; column < d_layout->columns; column++) {
      double sum = 0;
      for (uint64_t term = 0; term < depth; term++)
        sum += (double)(descriptor->transpose_a ? read_value(a, a_layout, term, row) : read_value(a, a_layout, row, term)) *
               (descriptor->transpose_b ? read_value(b, b_layout, column, term) : read_value(b, b_layout, term, column));
      sum *= *alpha;
      if (*beta) sum += *beta * read_value(c, c_layout, row, column);
      write_value(d, d_layout, row, column, (float)sum);
    }
  return SUCCESS;
}
