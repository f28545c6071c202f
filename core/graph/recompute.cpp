#include "core/graph/recompute.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/graph/autodiff.h"
#include "core/graph/specialize.h"

namespace dlk {

namespace {

constexpr size_t kMaxCuts = 400;  // places where a segment may begin; the search is quadratic
constexpr int kLimits = 32;       // sizes of the largest segment that are tried

/// The host answers it when the plan is made: it keeps no memory.
bool reads_shape_only(const Node& node) {
  return node.domain.empty() && (node.op == "Shape" || node.op == "Size");
}

/// Forward nodes that read a value last, and whether backward ones do.
struct Use {
  NodeId last_forward = kNoNode;
  bool backward = false;
  bool kept = false;  // an output of the graph, or assigned to a variable
};

std::vector<Use> find_uses(const Graph& graph, NodeId first_backward) {
  std::vector<Use> uses(graph.values().size());
  const std::vector<bool> needed = needed_nodes(graph);
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    if (!needed[n] || reads_shape_only(graph.nodes()[n])) continue;
    for (const ValueId input : graph.nodes()[n].inputs) {
      if (input == kNoValue) continue;
      if (id < first_backward) {
        uses[input].last_forward = std::max(uses[input].last_forward, id);
      } else {
        uses[input].backward = true;
      }
    }
  }
  for (const ValueId id : graph.outputs()) uses[id].kept = true;
  for (const Assignment& assignment : graph.assignments()) uses[assignment.value].kept = true;
  return uses;
}

/// Copies nodes of the segments on demand.
class Repeater {
 public:
  Repeater(Graph& graph, NodeId first_backward, std::vector<NodeRange> segments)
      : graph_(graph),
        end_(static_cast<NodeId>(graph.nodes().size())),
        needed_(needed_nodes(graph)) {
    std::sort(segments.begin(), segments.end());
    segment_of_.assign(static_cast<size_t>(end_), -1);
    NodeId done = 0;
    for (size_t s = 0; s < segments.size(); ++s) {
      const auto [first, last] = segments[s];
      if (first < done || last < first || last > first_backward) {
        throw_invalid("recompute: the segment of nodes " + std::to_string(first) + " to " +
                      std::to_string(last) + " overlaps another one or the backward nodes");
      }
      done = last;
      std::fill(segment_of_.begin() + first, segment_of_.begin() + last, static_cast<int>(s));
    }
    find_kept(first_backward);
  }

  size_t run(NodeId first_backward) {
    for (NodeId n = first_backward; n < end_; ++n) {
      if (!needed_[n] || reads_shape_only(graph_.nodes()[n])) continue;
      for (size_t i = 0; i < graph_.nodes()[n].inputs.size(); ++i) {
        const ValueId repeated = value_again(graph_.nodes()[n].inputs[i], kAny);
        graph_.mutable_node(n).inputs[i] = repeated;
      }
    }
    return graph_.nodes().size() - static_cast<size_t>(end_);
  }

 private:
  static constexpr int kAny = -2;

  int segment_of(ValueId id) const {
    const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
    return producer == kNoNode || producer >= end_ ? -1 : segment_of_[producer];
  }

  void find_kept(NodeId first_backward) {
    kept_.assign(graph_.values().size(), false);
    for (NodeId n = 0; n < first_backward; ++n) {
      if (!needed_[n] || reads_shape_only(graph_.nodes()[n])) continue;
      for (const ValueId id : graph_.nodes()[n].inputs) {
        const int segment = segment_of(id);
        if (segment >= 0 && segment != segment_of_[n]) kept_[id] = true;
      }
    }
    for (const ValueId id : graph_.outputs()) kept_[id] = true;
    for (const Assignment& assignment : graph_.assignments()) kept_[assignment.value] = true;
  }

  /// The value as a node of `segment` (kAny: a backward node) shall read it.
  ValueId value_again(ValueId id, int segment) {
    const int own = segment_of(id);
    if (own < 0 || (segment != kAny && own != segment)) return id;
    if (static_cast<size_t>(id) < kept_.size() && kept_[id]) return id;
    const NodeId producer = graph_.value(id).producer;
    const auto& before = graph_.nodes()[producer].outputs;
    const auto index =
        static_cast<size_t>(std::find(before.begin(), before.end(), id) - before.begin());
    return outputs_again(producer).at(index);
  }

  const std::vector<ValueId>& outputs_again(NodeId id) {
    // Depth first without recursion: segments of recurrent networks are long.
    std::vector<NodeId> open{id};
    while (!open.empty()) {
      const NodeId n = open.back();
      if (again_.contains(n)) {
        open.pop_back();
        continue;
      }
      const size_t before = open.size();
      for (const ValueId input : graph_.nodes()[n].inputs) {
        if (segment_of(input) != segment_of_[n] || kept_[input]) continue;
        const NodeId producer = graph_.value(input).producer;
        if (!again_.contains(producer)) open.push_back(producer);
      }
      if (open.size() > before) continue;
      open.pop_back();
      repeat(n);
    }
    return again_.at(id);
  }

  void repeat(NodeId n) {
    const Node node = graph_.nodes()[n];  // a copy: the graph's own nodes move
    std::vector<ValueId> inputs;
    for (const ValueId id : node.inputs) inputs.push_back(value_again(id, segment_of_[n]));
    std::vector<std::string> names;
    for (const ValueId id : node.outputs) {
      names.push_back(id == kNoValue ? "" : graph_.value(id).name + "/again");
    }
    again_[n] = graph_.add_node(node.op, std::move(inputs), node.attributes,
                                static_cast<int>(node.outputs.size()), node.name + "/again",
                                node.domain, names);
  }

  Graph& graph_;
  const NodeId end_;                // nodes from here on are repeated ones
  const std::vector<bool> needed_;  // by node
  std::vector<int> segment_of_;     // by node; -1: none
  std::vector<bool> kept_;          // by value
  std::map<NodeId, std::vector<ValueId>> again_;
};

/// Where to cut the forward pass: a search over the places between its nodes.
class CutSearch {
 public:
  CutSearch(const Graph& graph, NodeId first_backward,
            const std::map<std::string, int64_t>& symbols) {
    const auto uses = find_uses(graph, first_backward);
    const auto examples = example_values(graph, symbols);
    std::vector<double> made(static_cast<size_t>(first_backward) + 1, 0.0);
    for (size_t id = 0; id < uses.size(); ++id) {
      const Value& value = graph.values()[id];
      if (value.kind != ValueKind::kResult || value.producer >= first_backward) continue;
      const auto found = examples.find(value.name);
      if (found == examples.end() || found->second.known) continue;
      const double bytes = static_cast<double>(element_count(found->second.shape)) *
                           static_cast<double>(dtype_size(found->second.dtype));
      values_.push_back({value.producer, uses[id], bytes});
      if (uses[id].backward) {
        saved_ += bytes;
        made[static_cast<size_t>(value.producer) + 1] += bytes;
      }
    }
    choose_places(first_backward, made);
    fill_tables();
  }

  double saved() const { return saved_; }

  RecomputePlan best(double budget) const {
    RecomputePlan plan;
    plan.saved_bytes = plan.peak_bytes = static_cast<uint64_t>(saved_);
    if (budget > 0 && saved_ <= budget) return plan;
    double least = saved_, cheapest = HUGE_VAL;
    for (int step = 1; step <= kLimits; ++step) {
      const double limit = saved_ * std::pow(0.85, step);
      const std::vector<size_t> cuts = cuts_within(limit);
      if (cuts.empty()) continue;
      // The last segment is in memory when the backward pass begins, repeated or not.
      for (size_t repeated = 1; repeated + 1 < cuts.size(); ++repeated) {
        const auto [peak, work] = cost(cuts, repeated);
        const bool fits = budget > 0 && peak <= budget;
        const bool better = fits ? work < cheapest : cheapest == HUGE_VAL && peak < least;
        if (!better) continue;
        if (fits) cheapest = work;
        least = peak;
        plan.peak_bytes = static_cast<uint64_t>(peak);
        plan.segments.clear();
        for (size_t s = 0; s < repeated; ++s) {
          plan.segments.emplace_back(places_[cuts[s]], places_[cuts[s + 1]]);
        }
      }
    }
    return plan;
  }

 private:
  struct Entry {
    NodeId producer;
    Use use;
    double bytes;
  };

  void choose_places(NodeId count, const std::vector<double>& made) {
    const double share = std::max(saved_, 1.0) / static_cast<double>(kMaxCuts);
    double since = HUGE_VAL;  // the beginning is always a place
    for (NodeId n = 0; n < count; ++n) {
      since += made[static_cast<size_t>(n)];
      if (static_cast<size_t>(count) > kMaxCuts && since < share) continue;
      places_.push_back(n);
      since = 0.0;
    }
    places_.push_back(count);
  }

  /// The place whose segment holds a node.
  size_t place_of(NodeId n) const {
    return static_cast<size_t>(std::upper_bound(places_.begin(), places_.end(), n) -
                               places_.begin()) -
           1;
  }

  /// For every pair of places (i, j): bytes that a segment i .. j keeps for others, and bytes that
  /// it makes for backward nodes alone.
  void fill_tables() {
    const size_t n = places_.size();
    kept_.assign(n * n, 0.0);
    inner_.assign(n * n, 0.0);
    for (const Entry& value : values_) {
      const size_t made = place_of(value.producer);
      const NodeId last = value.use.last_forward;
      const size_t read = value.use.kept ? n : last == kNoNode ? 0 : place_of(last) + 1;
      for (size_t i = 0; i <= made; ++i) {
        for (size_t j = made + 1; j < n; ++j) {
          if (read > j) {
            kept_[i * n + j] += value.bytes;
          } else if (value.use.backward) {
            inner_[i * n + j] += value.bytes;
          }
        }
      }
    }
  }

  /// The cuts that keep the least while no segment makes more than `limit`; empty where none do.
  std::vector<size_t> cuts_within(double limit) const {
    const size_t n = places_.size();
    std::vector<double> least(n, HUGE_VAL);
    std::vector<size_t> from(n, 0);
    least[0] = 0.0;
    for (size_t j = 1; j < n; ++j) {
      for (size_t i = 0; i < j; ++i) {
        if (least[i] == HUGE_VAL || inner_[i * n + j] > limit) continue;
        const double total = least[i] + kept_[i * n + j];
        if (total < least[j]) {
          least[j] = total;
          from[j] = i;
        }
      }
    }
    if (least[n - 1] == HUGE_VAL) return {};
    std::vector<size_t> cuts{n - 1};
    while (cuts.back() != 0) cuts.push_back(from[cuts.back()]);
    std::reverse(cuts.begin(), cuts.end());
    return cuts;
  }

  /// Peak bytes and repeated bytes where the first `repeated` segments are computed again.
  std::pair<double, double> cost(const std::vector<size_t>& cuts, size_t repeated) const {
    const size_t n = places_.size();
    double kept = 0.0, largest = 0.0, rest = 0.0, work = 0.0;
    for (size_t s = 0; s + 1 < cuts.size(); ++s) {
      const size_t at = cuts[s] * n + cuts[s + 1];
      kept += kept_[at];
      if (s < repeated) {
        largest = std::max(largest, inner_[at]);
        work += inner_[at];
      } else {
        rest += inner_[at];
      }
    }
    return {kept + std::max(largest, rest), work};
  }

  std::vector<Entry> values_;
  std::vector<NodeId> places_;
  std::vector<double> kept_, inner_;
  double saved_ = 0.0;
};

}  // namespace

size_t recompute(Graph& graph, NodeId first_backward, std::vector<NodeRange> segments) {
  if (first_backward < 0 || first_backward > static_cast<NodeId>(graph.nodes().size())) {
    throw_invalid("recompute: there is no node " + std::to_string(first_backward));
  }
  return Repeater(graph, first_backward, std::move(segments)).run(first_backward);
}

RecomputePlan plan_recompute(const Graph& graph, NodeId first_backward, uint64_t budget_bytes,
                             const std::map<std::string, int64_t>& symbols) {
  return CutSearch(graph, first_backward, symbols).best(static_cast<double>(budget_bytes));
}

}  // namespace dlk
