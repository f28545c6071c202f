// Defects put in on purpose, which guard words must catch: kernels that write outside of their
// tensor, or read what nobody wrote.
#include "core/ops/op.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

/// Copies n elements from X to Y, without the first `skip`; with `shift` also writes the element
/// that many places behind the last one.
constexpr const char* kCopyKernel = R"(kernel seeded_copy
in X : f32
out Y : f32
param n : uint
param shift : uint
param skip : uint
group 64
{
  uint i = WL * 64u + LX;
  if (i < n && i >= skip) st(Y, i, ld(X, i));
  if (i == 0u && shift > 0u) st(Y, n - 1u + shift, 1.0f);
}
)";

DLK_REGISTER_OPS {
  OpSchema schema;
  schema.name = "SeededCopy";
  schema.domain = "dlk.test";
  schema.doc = "the input, with a defect that the attributes shift and skip choose";
  schema.layout = LayoutRule::kContiguous;
  schema.infer = [](InferContext& context) {
    context.set_output(0, context.dtype(0), context.shape(0));
  };
  schema.lower = [](LowerContext& context) {
    KernelRequest request;
    request.name = "seeded_copy";
    request.source = kCopyKernel;
    const int64_t n = context.output(0).elements();
    Params params;
    params["n"] = n;
    params["shift"] = context.attr_int("shift", 0);
    params["skip"] = context.attr_int("skip", 0);
    context.dispatch(request, {context.input(0), context.output(0)}, std::move(params),
                     {(n + 63) / 64, 1, 1});
  };
  register_op(std::move(schema));
}

/// x -> SeededCopy -> Softmax -> y, or the copy alone.
Graph seeded(int64_t shift, int64_t skip, bool in_arena) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({5, 7}));
  const ValueId copied = graph.add_node("SeededCopy", {x}, {{"shift", shift}, {"skip", skip}}, 1,
                                        "bad", "dlk.test")[0];
  graph.add_output(in_arena ? graph.add_node("Softmax", {copied})[0] : copied, "y");
  return graph;
}

/// What a run with guards throws, or "".
std::string report(const std::shared_ptr<Device>& device, const Graph& graph) {
  CompileOptions options;
  options.guards = true;
  const auto model = Model::create(graph, device, options);
  try {
    model->create_session()->run({{"x", noise({5, 7})}});
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kDeviceLost);
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("correct kernels leave the guards alone") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    CHECK(report(device, seeded(0, 0, true)) == "");
    CHECK(report(device, seeded(0, 0, false)) == "");
  }
}

TEST_CASE("one element too many is found and named") {
  for (const auto& device : test_devices()) {
    if (device->caps().backend != "opencl") continue;  // Vulkan drops what is outside of a binding
    CAPTURE(device->caps().id);
    for (const bool in_arena : {false, true}) {
      const std::string after = report(device, seeded(1, 0, in_arena));
      CHECK(contains(after, "0 bytes after its end"));
      CHECK(contains(after, "written by 'bad"));
      CHECK(contains(after, "140 bytes"));
      CHECK(contains(report(device, seeded(60, 0, in_arena)), "236 bytes after its end"));
    }
    CHECK(contains(report(device, seeded(1, 0, false)), "output 'y'"));
  }
}

TEST_CASE("an element that nobody wrote is NaN") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    CompileOptions options;
    options.guards = true;
    for (const bool in_arena : {false, true}) {
      const auto model = Model::create(seeded(0, 3, in_arena), device, options);
      const auto y = model->create_session()->run({{"x", noise({5, 7})}}).at("y").to_doubles();
      CHECK(std::isnan(y[0]));
      CHECK_FALSE(std::isnan(y[20]));
    }
  }
}
