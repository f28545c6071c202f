// Kernels over many tensors in one dispatch: which tensors a dispatch takes, and which of its
// groups work on which of them. Used by the optimizer and by the check for overflow.
#pragma once

#include <string>
#include <vector>

#include "core/ops/op_util.h"

namespace dlk {

/// Items of a group, and how many elements each of them takes one after the other.
inline constexpr int64_t kListItems = 128, kListElements = 8;

/// Tensors first .. first + count of a list, and the groups of the dispatch that takes them.
struct ListPart {
  size_t first = 0, count = 0;
  int64_t groups = 0;
  Params params;  // sizes[COUNT], ends[COUNT]
};

/// Cuts a list of tensors of `sizes` elements into dispatches: `bindings` buffers a tensor and
/// `shared` ones, and never tensors of different `kinds` together.
std::vector<ListPart> list_parts(const Caps& caps, const Shape& sizes,
                                 const std::vector<int>& kinds, size_t bindings, size_t shared);

/// The text of a kernel that runs `body` for each element `i` of each of `count` tensors, in whose
/// text and in whose lines of `buffers` @ stands for the tensor's number. `before` and `after`
/// surround all of it.
std::string list_kernel(const std::string& header, const std::string& buffers, size_t count,
                        const std::string& before, const std::string& body,
                        const std::string& after);

}  // namespace dlk
