#include <algorithm>
#include <random>

#include "core/device/hazards.h"
#include "core/graph/passes.h"
#include "core/graph/specialize.h"
#include "core/runtime/plan.h"
#include "tests/cpp/engine_testing.h"

using namespace dlk;
using namespace dlk::testing;

namespace {

ConcreteGraph concrete(const Graph& graph, const std::map<std::string, Shape>& shapes) {
  SpecializeOptions options;
  options.input_shapes = shapes;
  return specialize(graph, options).graph;
}

/// Random storages over `commands` commands, each used by a run of them.
Lowered random_program(std::mt19937& random, int storages, int commands) {
  Lowered lowered;
  lowered.commands.resize(static_cast<size_t>(commands));
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int s = 0; s < storages; ++s) {
    Storage storage;
    storage.size_bytes = static_cast<uint64_t>(1 + below(100000));
    storage.name = "s" + std::to_string(s);
    lowered.storages.push_back(storage);
    const int first = below(commands);
    const int last = std::min(commands - 1, first + below(12));
    for (const int c : {first, last}) {
      lowered.commands[static_cast<size_t>(c)].operands.push_back(
          {s, 0, storage.size_bytes, Access::kReadWrite});
    }
  }
  return lowered;
}

void check_no_overlap(const Lowered& lowered) {
  for (const Storage& a : lowered.storages) {
    for (const Storage& b : lowered.storages) {
      if (&a == &b || a.chunk != b.chunk) continue;
      const bool together = a.first_command <= b.last_command && b.first_command <= a.last_command;
      const bool apart = a.offset_bytes + a.size_bytes <= b.offset_bytes ||
                         b.offset_bytes + b.size_bytes <= a.offset_bytes;
      CHECK((!together || apart));
    }
  }
}

/// A block of Inception: branches of convolutions that are joined, twice.
Graph inception() {
  Graph graph;
  ValueId x =
      graph.add_input("x", DType::kFloat32, {Dim::named("N"), Dim::of(8), Dim::of(6), Dim::of(6)});
  int64_t channels = 8;
  for (uint32_t block = 0; block < 2; ++block) {
    std::vector<ValueId> branches;
    int64_t total = 0;
    for (uint32_t b = 0; b < 3; ++b) {
      const int64_t out = 4 + 4 * b;
      const ValueId w = graph.add_constant("w", noise({out, channels, 1, 1}, 10 * block + b + 1));
      const ValueId y = graph.add_node("Conv", {x, w})[0];
      branches.push_back(graph.add_node("Relu", {y})[0]);
      total += out;
    }
    x = graph.add_node("Concat", branches, {{"axis", int64_t{1}}})[0];
    channels = total;
  }
  graph.add_output(graph.add_node("Sigmoid", {x})[0], "y");
  return graph;
}

/// Pairs of commands that touch the same bytes, one of them writing, without a barrier between
/// them: found pair by pair, unlike the tracker that placed the barriers.
size_t missing_barriers(const CommandList& list) {
  size_t missing = 0;
  const auto& commands = list.commands();
  for (size_t b = 0; b < commands.size(); ++b) {
    for (size_t a = b; a-- > 0;) {
      if (commands[a + 1].barrier_before) break;
      for (const RangeUse& x : command_uses(commands[a])) {
        for (const RangeUse& y : command_uses(commands[b])) {
          missing += conflict(x, y);
        }
      }
    }
  }
  return missing;
}

}  // namespace

TEST_CASE("plans have the barriers they need, and independent branches none") {
  for (const auto& device : test_devices()) {
    for (const bool channels_last : {false, true}) {  // pieces of a concat are apart, or interleave
      CAPTURE(device->caps().id);
      CAPTURE(channels_last);
      const Graph graph = inception();
      WeightStore weights(device);
      HostCache cache;
      SpecializeOptions inputs;
      inputs.input_shapes = {{"x", {1, 8, 6, 6}}};
      CompileOptions options;
      options.channels_last = channels_last;
      const auto plan =
          Plan::build(graph, device, *KernelLibrary::of(device), options, inputs, weights, cache);
      const auto chunks = allocate_chunks(*device, plan->memory());
      const auto counters = std::make_shared<Buffer>(plan->memory().counter_bytes);
      CommandList list = plan->commands(chunks, counters);
      CHECK(missing_barriers(list) == 0);
      const auto barriers = static_cast<size_t>(std::ranges::count_if(
          list.commands(), [](const Command& c) { return c.barrier_before; }));
      CHECK(barriers == 2);  // after each block of branches
      for (size_t i = 0; i < barriers; ++i) {
        CommandList broken = plan->commands(chunks, counters);
        broken.drop_barrier_for_test(i);
        CHECK(missing_barriers(broken) > 0);
      }
    }
  }
}

TEST_CASE("storages that live at the same time never overlap, and little is wasted") {
  std::mt19937 random(7);
  double worst = 0;
  for (int round = 0; round < 60; ++round) {
    Lowered lowered = random_program(random, 60, 40);
    const MemoryPlan plan = plan_memory(lowered, uint64_t{1} << 40);
    check_no_overlap(lowered);
    CHECK(plan.arena_bytes() >= plan.peak_live_bytes);
    worst = std::max(
        worst, static_cast<double>(plan.arena_bytes()) / static_cast<double>(plan.peak_live_bytes));
  }
  CHECK(worst <= 1.2);
}

TEST_CASE("arenas respect the largest buffer") {
  std::mt19937 random(3);
  Lowered lowered = random_program(random, 80, 20);
  const MemoryPlan plan = plan_memory(lowered, 150000);
  check_no_overlap(lowered);
  CHECK(plan.chunk_bytes.size() > 1);
  for (const uint64_t bytes : plan.chunk_bytes) CHECK(bytes <= 150000);
  Lowered too_large = random_program(random, 2, 2);
  CHECK_THROWS_AS(plan_memory(too_large, 100), Error);
}

TEST_CASE("inputs of a concat are written in their places") {
  ConcreteGraph graph = concrete(inception(), {{"x", {2, 8, 6, 6}}});
  fuse_pointwise(graph, 8);
  fuse_epilogues(graph, 8);
  remove_dead_nodes(graph);
  const Layout layout = assign_layout(graph, {});
  for (const ConcreteNode& node : graph.nodes) {
    if (node.node.op != "Concat") continue;
    for (const ValueId id : node.node.inputs) {
      CHECK(layout.views[id].storage == layout.views[node.node.outputs[0]].storage);
    }
  }
}

TEST_CASE("a pointwise result takes the place of an input that dies") {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({4, 4}));
  const ValueId a = graph.add_node("Exp", {x})[0];
  const ValueId b = graph.add_node("Sin", {a})[0];
  const ValueId c = graph.add_node("Mul", {b, a})[0];  // `a` is needed here still
  const ValueId d = graph.add_node("Neg", {c})[0];
  graph.add_output(graph.add_node("Cos", {d})[0], "y");
  const ConcreteGraph result = concrete(graph, {{"x", {4, 4}}});
  const Layout layout = assign_layout(result, {});
  const auto storage = [&](ValueId id) { return layout.views[id].storage; };
  CHECK(storage(b) != storage(a));
  CHECK((storage(c) == storage(b) || storage(c) == storage(a)));
  CHECK(storage(d) == storage(c));
  CHECK(storage(d) != storage(x));
}

TEST_CASE("views and copies compute the same") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    const HostTensor x = noise({2, 8, 6, 6}, 5);
    std::vector<double> expected;
    for (const bool alias : {false, true}) {
      CompileOptions options;
      options.alias = alias;
      const auto model = Model::create(inception(), device, options);
      const auto y = model->create_session()->run({{"x", x}}).at("y").to_doubles();
      if (!alias) expected = y;
      CHECK(relative_error(y, expected) < 1e-5);
      const PlanSummary plan = model->plan({{"x", x}});
      if (alias) CHECK(plan.dispatches == 7);  // six convolutions and a sigmoid
      CHECK(plan.table().find("Conv+Relu") != std::string::npos);
      CHECK(plan.graphviz().find("s0 ->") != std::string::npos);
    }
  }
}

TEST_CASE("a concat of a value and a part of it") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2, 3}));
    const ValueId y = graph.add_node("Neg", {x})[0];
    const auto ints = [&](int64_t value) {
      return graph.add_constant("i", HostTensor::ints({value}));
    };
    const ValueId part = graph.add_node("Slice", {y, ints(1), ints(2), ints(1)})[0];
    graph.add_output(graph.add_node("Concat", {y, part}, {{"axis", int64_t{1}}})[0], "z");
    const auto model = Model::create(std::move(graph), device);
    const auto z = model->create_session()->run({{"x", floats({2, 3}, {1, 2, 3, 4, 5, 6})}});
    CHECK(z.at("z").to_doubles() == std::vector<double>{-1, -2, -3, -2, -4, -5, -6, -5});
  }
}

TEST_CASE("variables are assigned after every reader, and may be swapped") {
  for (const auto& device : test_devices()) {
    CAPTURE(device->caps().id);
    Graph graph;
    const ValueId x = graph.add_input("x", DType::kFloat32, static_shape({2}));
    const ValueId sum = graph.add_variable("sum", floats({2}, {0, 10}), false);
    const ValueId a = graph.add_variable("a", floats({2}, {1, 2}), false);
    const ValueId b = graph.add_variable("b", floats({2}, {3, 4}), false);
    const ValueId next = graph.add_node("Add", {sum, x})[0];
    graph.add_output(graph.add_node("Sub", {next, a})[0], "y");
    graph.add_output(sum, "before");
    graph.assign(sum, next);
    graph.assign(a, b);
    graph.assign(b, a);
    const auto model = Model::create(std::move(graph), device);
    const auto session = model->create_session();
    const RunInputs inputs{{"x", floats({2}, {1, 1})}};
    const auto first = session->run(inputs);
    CHECK(first.at("y").to_doubles() == std::vector<double>{0, 9});
    CHECK(first.at("before").to_doubles() == std::vector<double>{0, 10});
    const auto second = session->run(inputs);
    CHECK(second.at("y").to_doubles() == std::vector<double>{-1, 8});
    CHECK(model->read_variable("sum").to_doubles() == std::vector<double>{2, 12});
    CHECK(model->read_variable("a").to_doubles() == std::vector<double>{1, 2});
    model->write_variable("sum", floats({2}, {5, 5}));
    CHECK(session->run(inputs).at("before").to_doubles() == std::vector<double>{5, 5});
  }
}
