// MatMul and Gemm: schemas, shape rules, and the views that their kernels see.
#include "core/ops/matmul.h"

#include <algorithm>

#include "core/ops/gradients.h"
#include "core/ops/op_util.h"
#include "core/ops/window.h"

namespace dlk {

namespace {

void check_dtypes(InferContext& ctx) {
  if (!is_integer(ctx.dtype(0))) require_arithmetic_dtype(ctx, 0);
  if (ctx.dtype(1) != ctx.dtype(0)) {
    ctx.fail("the operands are " + std::string(dtype_name(ctx.dtype(0))) + " and " +
             std::string(dtype_name(ctx.dtype(1))) + "; they must be of one dtype");
  }
}

// Matrix forms of the operands: a 1-D left operand is a row, a 1-D right operand a column.
Shape as_matrix(const Shape& shape, bool is_left) {
  if (shape.size() != 1) return shape;
  return is_left ? Shape{1, shape[0]} : Shape{shape[0], 1};
}

void infer_matmul(InferContext& ctx) {
  check_dtypes(ctx);
  const Shape &a0 = ctx.shape(0), &b0 = ctx.shape(1);
  if (a0.empty() || b0.empty()) ctx.fail("the operands must have at least one axis");
  const Shape a = as_matrix(a0, true), b = as_matrix(b0, false);
  if (a.back() != b[b.size() - 2]) {
    ctx.fail("the operands " + shape_string(a0) + " and " + shape_string(b0) +
             " do not fit: the inner extents are " + std::to_string(a.back()) + " and " +
             std::to_string(b[b.size() - 2]));
  }
  Shape y = broadcast_shapes(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (a0.size() > 1) y.push_back(a[a.size() - 2]);
  if (b0.size() > 1) y.push_back(b.back());
  ctx.set_output(0, ctx.dtype(0), std::move(y));
}

// The rows of images: as memory has them where the weights can be packed in that order.
void flatten_images(LowerContext& ctx, MatrixProblem& p) {
  const TensorView images = p.a;
  const Shape rows{images.shape[0], product(images.shape, 1)};
  if (const auto view = images.reshaped(rows)) {
    p.a = *view;
    return;
  }
  p.a.shape = rows;
  p.a.strides = {images.strides[0], 1};
  if (!ctx.caps().is_cpu && images.is_channels_last() && can_pack(ctx, p)) {
    p.image = Shape(images.shape.begin() + 1, images.shape.end());
  } else {
    p.a = *ctx.contiguous(images).reshaped(rows);
  }
}

void lower_matmul(LowerContext& ctx) {
  MatrixProblem p;
  p.a = ctx.input(0);
  p.b = ctx.input(1);
  p.y = ctx.output(0);
  if (ctx.has_attr(kFlattensImage)) flatten_images(ctx, p);
  if (p.b.rank() == 1) {
    // A column vector on the right is a row vector on the left of the transposed matrix: the
    // result's last axis stays the one that the epilogue's channel counts.
    std::swap(p.a, p.b);
    p.b_input = 0;
    if (p.b.rank() == 1) p.b = insert_axis(p.b, 0);
    std::vector<int64_t> order = all_axes(p.b.rank());
    std::swap(order[order.size() - 1], order[order.size() - 2]);
    p.b = permute_view(p.b, order);
    p.b_transposed = true;
    if (p.y.rank() == 0) p.y = insert_axis(p.y, 0);
  }
  if (p.a.rank() == 1) {
    p.a = insert_axis(p.a, 0);
    p.y = insert_axis(p.y, p.y.rank() - 1);
  }
  const auto broadcast = [&](const TensorView& view) {
    Shape shape(p.y.shape.begin(), p.y.shape.end() - 2);
    shape.insert(shape.end(), view.shape.end() - 2, view.shape.end());
    return broadcast_view(view, shape);
  };
  p.a = broadcast(p.a);
  p.b = broadcast(p.b);
  lower_matrix_product(ctx, p);
}

struct GemmShape {
  int64_t m, n, k;
};

GemmShape gemm_shape(const NodeReader& node, const Shape& a, const Shape& b) {
  if (a.size() != 2 || b.size() != 2) {
    node.fail("the operands " + shape_string(a) + " and " + shape_string(b) + " must be matrices");
  }
  const size_t ta = node.attr_int("transA", 0) != 0 ? 1 : 0;
  const size_t tb = node.attr_int("transB", 0) != 0 ? 1 : 0;
  if (a[1 - ta] != b[tb]) {
    node.fail("the operands " + shape_string(a) + (ta == 1 ? " (transposed)" : "") + " and " +
              shape_string(b) + (tb == 1 ? " (transposed)" : "") +
              " do not fit: the inner extents are " + std::to_string(a[1 - ta]) + " and " +
              std::to_string(b[tb]));
  }
  return {a[ta], b[1 - tb], b[tb]};
}

void infer_gemm(InferContext& ctx) {
  check_dtypes(ctx);
  const GemmShape g = gemm_shape(ctx, ctx.shape(0), ctx.shape(1));
  if (is_integer(ctx.dtype(0))) {
    for (const double factor : {ctx.attr_float("alpha", 1.0), ctx.attr_float("beta", 1.0)}) {
      if (factor != static_cast<double>(static_cast<int32_t>(factor))) {
        ctx.unsupported("integers with alpha or beta that are no integers");
      }
    }
  }
  const Shape y{g.m, g.n};
  if (ctx.has_input(2) && broadcast_shapes(ctx.shape(2), y) != y) {
    ctx.fail("C " + shape_string(ctx.shape(2)) + " cannot be broadcast to " + shape_string(y));
  }
  ctx.set_output(0, ctx.dtype(0), y);
}

void lower_gemm(LowerContext& ctx) {
  MatrixProblem p;
  p.a = ctx.input(0);
  p.b = ctx.input(1);
  p.y = ctx.output(0);
  if (ctx.attr_int("transA", 0) != 0) p.a = permute_view(p.a, {1, 0});
  p.b_transposed = ctx.attr_int("transB", 0) != 0;
  if (p.b_transposed) p.b = permute_view(p.b, {1, 0});
  p.alpha = ctx.attr_float("alpha", 1.0);
  p.beta = ctx.attr_float("beta", 1.0);
  if (ctx.has_input(2) && p.beta != 0.0) p.c = broadcast_view(ctx.input(2), p.y.shape);
  if (ctx.has_attr(kFlattensImage)) flatten_images(ctx, p);
  lower_matrix_product(ctx, p);
}

}  // namespace

DLK_REGISTER_OPS {
  register_op({
      .name = "MatMul",
      .since_version = 13,
      .doc = "Matrix product with NumPy's broadcasting of batch axes and 1-D operands.",
      .min_inputs = 2,
      .max_inputs = 2,
      .layout = LayoutRule::kContiguous,
      .fuses_epilogue = true,
      .epilogue_channel_axis = -1,
      .infer = infer_matmul,
      .lower = lower_matmul,
      .mixed_floats = true,
      .gradient = matmul_gradient,
  });
  register_op({
      .name = "Gemm",
      .since_version = 13,
      .doc = "alpha * A B + beta * C of matrices, each transposed on demand; C is broadcast.",
      .min_inputs = 2,
      .max_inputs = 3,
      .layout = LayoutRule::kContiguous,
      .fuses_epilogue = true,
      .epilogue_channel_axis = 1,
      .infer = infer_gemm,
      .lower = lower_gemm,
      .mixed_floats = true,
      .gradient = gemm_gradient,
  });
}

}  // namespace dlk
