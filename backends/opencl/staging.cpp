#include "backends/opencl/staging.h"

#include <algorithm>
#include <cstring>

namespace dlk::opencl {

namespace {

constexpr size_t kPieceBytes = size_t{1} << 20, kMostPieces = 16;
constexpr size_t kLeastBytes = size_t{32} << 10;

}  // namespace

bool StagingRing::is_free(const Piece& piece) const {
  return !piece.event || status_of(*context_, piece.event.get()) <= CL_COMPLETE;
}

bool StagingRing::has_room(size_t pieces) const {
  size_t room = kMostPieces - pieces_.size();
  for (size_t i = 0; i < pieces_.size() && room < pieces; ++i) room += is_free(pieces_[i]) ? 1 : 0;
  return room >= pieces;
}

bool StagingRing::add_piece(cl_command_queue queue) {
  const Api& cl = *context_->cl;
  cl_int code = CL_SUCCESS;
  Piece piece;
  piece.memory = cl.clCreateBuffer(context_->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                   kPieceBytes, nullptr, &code);
  if (code != CL_SUCCESS) return false;
  void* data = cl.clEnqueueMapBuffer(queue, piece.memory, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                     kPieceBytes, 0, nullptr, nullptr, &code);
  if (code != CL_SUCCESS || data == nullptr) {
    cl.clReleaseMemObject(piece.memory);
    return false;
  }
  piece.data = static_cast<std::byte*>(data);
  pieces_.insert(pieces_.begin() + static_cast<std::ptrdiff_t>(next_), std::move(piece));
  return true;
}

StagingRing::Piece* StagingRing::next_piece(cl_command_queue queue) {
  next_ = pieces_.empty() ? 0 : next_ % pieces_.size();
  const bool wanted = pieces_.empty() || !is_free(pieces_[next_]);
  if (wanted && pieces_.size() < kMostPieces && !refused_) refused_ = !add_piece(queue);
  if (pieces_.empty()) return nullptr;
  Piece& piece = pieces_[next_++];
  if (!is_free(piece)) {
    const cl_event event = piece.event.get();
    context_->cl->clFlush(queue);
    context_->cl->clWaitForEvents(1, &event);  // the queue reports what failed
  }
  return &piece;
}

Event StagingRing::write(cl_command_queue queue, const View& destination,
                         std::span<const std::byte> source, bool may_wait) {
  const size_t count = (source.size() + kPieceBytes - 1) / kPieceBytes;
  if (source.size() < kLeastBytes || (refused_ && pieces_.empty())) return nullptr;
  if (!may_wait && !has_room(count)) return nullptr;
  Event last;
  for (size_t at = 0; at < source.size(); at += kPieceBytes) {
    Piece* piece = next_piece(queue);
    if (piece == nullptr) return nullptr;  // the first: nothing was enqueued
    const size_t bytes = std::min(kPieceBytes, source.size() - at);
    std::memcpy(piece->data, source.data() + at, bytes);
    cl_event event = nullptr;
    check(context_->cl->clEnqueueWriteBuffer(queue, memory_of(destination), CL_FALSE,
                                             destination.offset_bytes + at, bytes, piece->data, 0,
                                             nullptr, &event),
          "clEnqueueWriteBuffer");
    last = piece->event = own_event(context_, event);
    if (at + kPieceBytes < source.size()) check(context_->cl->clFlush(queue), "clFlush");
  }
  return last;
}

void StagingRing::close(cl_command_queue queue) {
  const Api& cl = *context_->cl;
  for (const Piece& piece : pieces_) {
    cl.clEnqueueUnmapMemObject(queue, piece.memory, piece.data, 0, nullptr, nullptr);
    cl.clReleaseMemObject(piece.memory);
  }
  if (!pieces_.empty()) cl.clFinish(queue);
  pieces_.clear();
}

}  // namespace dlk::opencl
