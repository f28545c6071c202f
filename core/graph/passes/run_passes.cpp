#include "core/graph/passes.h"

namespace dlk {

std::vector<Preparation> run_passes(ConcreteGraph& graph, const PassOptions& options,
                                    const LowerOptions& lowering, HostCache& cache) {
  remove_dead_nodes(graph);
  remove_identities(graph);
  if (options.fuse) fold_batch_norm(graph, cache);
  if (options.dtype == DType::kFloat16) store_as_fp16(graph);
  std::vector<Preparation> preparations = fold_constants(graph, lowering);
  if (options.fuse) {
    fuse_pointwise(graph, options.max_bindings);
    fuse_separable(graph, *lowering.caps);
    fuse_epilogues(graph, options.max_bindings);
    fuse_channel_shuffles(graph);
    if (!lowering.caps->is_cpu) read_images_unflattened(graph);
  }
  remove_dead_nodes(graph);
  return preparations;
}

}  // namespace dlk
