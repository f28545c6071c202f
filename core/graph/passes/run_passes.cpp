#include "core/graph/passes.h"

namespace dlk {

std::vector<Preparation> run_passes(ConcreteGraph& graph, const PassOptions& options,
                                    const LowerOptions& lowering) {
  (void)options;
  (void)lowering;
  remove_dead_nodes(graph);
  return {};
}

}  // namespace dlk
