// PlanSummary: what a plan consists of, as a table for people and as a drawing.
#include <algorithm>
#include <cstdio>
#include <set>

#include "core/runtime/plan.h"

namespace dlk {

namespace {

std::string human_bytes(uint64_t bytes) {
  char text[32];
  if (bytes >= (1u << 20)) {
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  } else if (bytes >= 1024) {
    std::snprintf(text, sizeof text, "%.1f KiB", static_cast<double>(bytes) / 1024);
  } else {
    std::snprintf(text, sizeof text, "%llu B", static_cast<unsigned long long>(bytes));
  }
  return text;
}

std::string padded(std::string text, size_t width) {
  if (text.size() > width) text = text.substr(0, width - 1) + "~";
  text.resize(width, ' ');
  return text;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

}  // namespace

double estimate_flops(const ConcreteGraph& graph, const ConcreteNode& node) {
  const auto elements = [&](ValueId id) {
    return static_cast<double>(element_count(graph.value(id).shape));
  };
  const std::string& op = node.node.op;
  if (node.node.outputs.empty() || node.node.outputs[0] == kNoValue) return 0;
  const double results = elements(node.node.outputs[0]);
  const auto shape_of = [&](size_t i) { return graph.value(node.node.inputs[i]).shape; };
  if (op == "Conv" || op == "ConvTranspose") {
    const Shape weights = shape_of(1);
    double taps = op == "Conv" ? static_cast<double>(weights[1]) : static_cast<double>(weights[0]);
    for (size_t i = 2; i < weights.size(); ++i) taps *= static_cast<double>(weights[i]);
    if (op == "ConvTranspose") {
      taps = elements(node.node.inputs[1]) / std::max(1.0, static_cast<double>(weights[0]));
      return 2 * taps * elements(node.node.inputs[0]);
    }
    return 2 * results * taps;
  }
  if (op == "SeparableConv") {
    const Shape filters = shape_of(1), weights = shape_of(3);
    const auto channels = static_cast<double>(weights[1]);
    const double filtered = results / std::max(1.0, static_cast<double>(weights[0])) * channels;
    return 2 * results * channels + 2 * filtered * static_cast<double>(filters[2] * filters[3]);
  }
  if (op == "MatMul" || op == "Gemm") {
    const Shape a = shape_of(0);
    if (a.empty()) return 0;
    if (NodeReader(node.node).has_attr(kFlattensImage)) {
      return 2 * results * elements(node.node.inputs[0]) / static_cast<double>(a[0]);
    }
    const bool transposed = op == "Gemm" && NodeReader(node.node).attr_int("transA", 0) != 0;
    return 2 * results * static_cast<double>(transposed ? a.front() : a.back());
  }
  if (node.program) return results * static_cast<double>(node.program->steps.size());
  if (node.schema->pointwise) return results;
  return 0;
}

void Plan::summarize(const ConcreteGraph& graph, uint64_t weight_bytes) {
  // Only the barriers are read from this list: buffers without memory will do.
  std::vector<std::shared_ptr<Buffer>> chunks;
  for (const uint64_t bytes : program_.memory.chunk_bytes) {
    chunks.push_back(std::make_shared<Buffer>(bytes));
  }
  const CommandList list =
      commands(chunks, std::make_shared<Buffer>(program_.memory.counter_bytes));
  std::map<int32_t, size_t> writer;  // of each storage, so far
  const auto& planned = program_.lowered.commands;
  std::map<NodeId, size_t> last;  // command of each node
  for (size_t c = 0; c < planned.size(); ++c) last[planned[c].node] = c;
  for (size_t c = 0; c < planned.size(); ++c) {
    const PlannedCommand& command = planned[c];
    PlanStep step;
    step.node = command.label;
    step.op = command.op;
    step.kernel = command.is_copy ? "copy" : command.request.name;
    step.groups = command.groups;
    step.barrier_before = list.commands()[c].barrier_before;
    for (const PlannedOperand& operand : command.operands) {
      if (operand.access != Access::kWrite) step.bytes_read += operand.size_bytes;
      if (operand.access != Access::kRead) step.bytes_written += operand.size_bytes;
      if (const auto found = writer.find(operand.storage); found != writer.end()) {
        step.reads_from.push_back(found->second);
      }
    }
    for (const PlannedOperand& operand : command.operands) {
      if (operand.access != Access::kRead) writer[operand.storage] = c;
    }
    if (command.node != kNoNode) {
      const ConcreteNode& node = graph.nodes[command.node];
      for (const std::string& fused : node.fused) step.op += "+" + fused;
      if (last[command.node] == c) step.flops = estimate_flops(graph, node);
    }
    summary_.dispatches += command.is_copy ? 0 : 1;
    summary_.steps.push_back(std::move(step));
  }
  summary_.host_ops = graph.host_ops;
  summary_.arena_bytes = program_.memory.arena_bytes();
  summary_.peak_live_bytes = program_.memory.peak_live_bytes;
  summary_.weight_bytes = weight_bytes;
  summary_.pipelines = program_.pipelines;
  for (const PlanTensor& output : outputs_) summary_.output_shapes[output.name] = output.shape;
}

std::string PlanSummary::table() const {
  std::string text = padded("node", 32) + " " + padded("operator", 28) + " " +
                     padded("kernel", 24) + " " + padded("groups", 16) + " " + padded("read", 11) +
                     " " + padded("written", 11) + " MFLOP\n";
  double flops = 0;
  for (const PlanStep& step : steps) {
    std::string groups;
    for (const uint32_t count : step.groups) {
      groups += (groups.empty() ? "" : "x") + std::to_string(count);
    }
    char mflop[32];
    std::snprintf(mflop, sizeof mflop, "%.2f", step.flops / 1e6);
    text += padded(step.node, 32) + " " + padded(step.op, 28) + " " + padded(step.kernel, 24) +
            " " + padded(groups, 16) + " " + padded(human_bytes(step.bytes_read), 11) + " " +
            padded(human_bytes(step.bytes_written), 11) + " " + mflop + "\n";
    flops += step.flops;
  }
  char total[64];
  std::snprintf(total, sizeof total, "%.3f", flops / 1e9);
  text += std::to_string(dispatches) + " dispatches of " + std::to_string(pipelines) +
          " kernels, " + total + " GFLOP; weights " + human_bytes(weight_bytes) + ", arena " +
          human_bytes(arena_bytes) + " (least possible " + human_bytes(peak_live_bytes) + ")\n";
  if (!host_ops.empty()) {
    text += "on the host (shapes and control flow): " + std::to_string(host_ops.size()) +
            " operators\n";
  }
  return text;
}

std::string PlanSummary::graphviz() const {
  std::string text = "digraph plan {\n  rankdir=TB;\n  node [shape=box, fontname=Helvetica];\n";
  for (size_t i = 0; i < steps.size(); ++i) {
    const PlanStep& step = steps[i];
    text += "  s" + std::to_string(i) +
            " [label=" + quoted(step.node + "\n" + step.op + "\n" + step.kernel) +
            (step.barrier_before ? ", style=bold" : "") + "];\n";
    for (const size_t source : step.reads_from) {
      text += "  s" + std::to_string(source) + " -> s" + std::to_string(i) + ";\n";
    }
  }
  return text + "}\n";
}

}  // namespace dlk
