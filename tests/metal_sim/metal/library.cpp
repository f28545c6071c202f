// MTLLibrary, MTLFunction, pipelines and binary archives.
#include <cstdio>
#include <cstring>
#include <fstream>

#include "tests/metal_sim/metal/classes.h"
#include "tests/metal_sim/settings.h"

namespace metal_sim {

namespace {

constexpr const char* kLibraryDomain = "MTLLibraryErrorDomain";
constexpr const char* kArchiveDomain = "MTLBinaryArchiveDomain";
constexpr UInt kFailOnArchiveMiss = 4;

void set_error(Object** error, const char* domain, Int code, const std::string& text) {
  if (error) *error = error_of(domain, code, text);
}

Object* make_library(Device*, Sel, String* source, CompileOptions* options, Object** error) {
  if (!source) fatal("newLibraryWithSource: the source is nil");
  const UInt version = options ? options->language_version : 0;
  if (!version) problem("newLibraryWithSource: no languageVersion is set");
  if (!options || options->math_mode != 0) {
    problem("newLibraryWithSource: the math mode is not safe");
  }
  if (fault_due("compile-error")) {
    set_error(error, kLibraryDomain, 3, "program_source:1:1: error: injected compile error");
    return nullptr;
  }
  CompileResult result = compile_msl(source->text, version ? version : 0x20004);
  if (!result.module) {
    set_error(error, kLibraryDomain, 3, result.log);
    return nullptr;
  }
  auto* library = make<Library>("MTLLibrary");
  library->module = std::move(result.module);
  return library;
}

Object* make_function(Library* self, Sel, String* name) {
  for (const KernelEntry& kernel : self->module->kernels) {
    if (!name || kernel.name != name->text) continue;
    auto* function = make<Function>("MTLFunction");
    function->module = self->module;
    function->kernel = &kernel;
    return function;
  }
  return nullptr;
}

Object* make_pipeline(Function* function, UInt max_threads, Object** error) {
  if (!function) fatal("newComputePipelineState: the function is nil");
  const KernelEntry& kernel = *function->kernel;
  if (max_threads > 1024) {
    problem("newComputePipelineState: maxTotalThreadsPerThreadgroup is beyond the device's");
  }
  if (fault_due("pipeline-error")) {
    set_error(error, kLibraryDomain, 3, "injected pipeline error");
    return nullptr;
  }
  if (function->module->uses_matrix && !settings().profile->simdgroup_matrix) {
    set_error(error, kLibraryDomain, 3, "simdgroup_matrix is not supported on this device");
    return nullptr;
  }
  if (kernel.threadgroup_bytes() > settings().profile->threadgroup_bytes) {
    set_error(error, kLibraryDomain, 3,
              "Threadgroup memory size (" + std::to_string(kernel.threadgroup_bytes()) +
                  ") exceeds the maximum threadgroup memory allowed (" +
                  std::to_string(settings().profile->threadgroup_bytes) + ")");
    return nullptr;
  }
  auto* pipeline = make<Pipeline>("MTLComputePipelineState");
  pipeline->module = function->module;
  pipeline->kernel = function->kernel;
  pipeline->max_threads = max_threads ? max_threads : settings().profile->max_threads;
  if (const std::string limit = fault("max-threads"); !limit.empty()) {
    pipeline->max_threads = std::stoul(limit);
  }
  return pipeline;
}

std::string key_of(const Function& function) {
  return function.module->key + ":" + function.kernel->name;
}

Object* pipeline_of_descriptor(Device*, Sel, PipelineDescriptor* descriptor, UInt options, void**,
                               Object** error) {
  if (!descriptor) fatal("newComputePipelineStateWithDescriptor: the descriptor is nil");
  if (!descriptor->function) fatal("newComputePipelineStateWithDescriptor: no compute function");
  if (options & kFailOnArchiveMiss) {
    bool found = false;
    if (descriptor->archives) {
      for (const Ref<Object>& item : descriptor->archives->items) {
        for (const std::string& key : static_cast<BinaryArchive*>(item.get())->keys) {
          found |= key == key_of(*descriptor->function.get());
        }
      }
    }
    if (!found) {
      set_error(error, kArchiveDomain, 2, "the pipeline is not in the binary archives");
      return nullptr;
    }
  }
  return make_pipeline(descriptor->function.get(), descriptor->max_threads, error);
}

Object* make_archive(Device*, Sel, BinaryArchiveDescriptor* descriptor, Object** error) {
  auto* archive = make<BinaryArchive>("MTLBinaryArchive");
  if (!descriptor || !descriptor->url) return archive;
  std::ifstream file(descriptor->url->path);
  std::string line;
  if (!std::getline(file, line) || line != "metal-sim archive") {
    release(archive);
    set_error(error, kArchiveDomain, 1, "not a binary archive: " + descriptor->url->path);
    return nullptr;
  }
  while (std::getline(file, line)) archive->keys.push_back(line);
  return archive;
}

bool add_to_archive(BinaryArchive* self, Sel, PipelineDescriptor* descriptor, Object** error) {
  if (!descriptor->function) {
    set_error(error, kArchiveDomain, 3, "the descriptor has no function");
    return false;
  }
  self->keys.push_back(key_of(*descriptor->function.get()));
  return true;
}

bool write_archive(BinaryArchive* self, Sel, Url* url, Object** error) {
  std::ofstream file(url->path, std::ios::trunc);
  file << "metal-sim archive\n";
  for (const std::string& key : self->keys) file << key << '\n';
  file.close();
  if (file) return true;
  set_error(error, kArchiveDomain, 1, "cannot write " + url->path);
  return false;
}

void install_compile_options() {
  plain_class<CompileOptions>("MTLCompileOptions");
  method(
      "MTLCompileOptions", "setLanguageVersion:", +[](CompileOptions* self, Sel, UInt version) {
        self->language_version = version;
      });
  method(
      "MTLCompileOptions", "setFastMathEnabled:", +[](CompileOptions* self, Sel, bool fast) {
        self->math_mode = fast ? 2 : 0;
      });
  method(
      "MTLCompileOptions",
      "setMathMode:", +[](CompileOptions* self, Sel, Int mode) { self->math_mode = mode; }, 15);
}

void install_descriptors() {
  plain_class<PipelineDescriptor>("MTLComputePipelineDescriptor");
  method(
      "MTLComputePipelineDescriptor",
      "setComputeFunction:", +[](PipelineDescriptor* self, Sel, Function* function) {
        self->function = Ref<Function>(function);
      });
  method(
      "MTLComputePipelineDescriptor",
      "setBinaryArchives:", +[](PipelineDescriptor* self, Sel, Array* archives) {
        self->archives = Ref<Array>(archives);
      });
  method(
      "MTLComputePipelineDescriptor", "setMaxTotalThreadsPerThreadgroup:",
      +[](PipelineDescriptor* self, Sel, UInt count) { self->max_threads = count; });
  method(
      "MTLComputePipelineDescriptor", "setThreadGroupSizeIsMultipleOfThreadExecutionWidth:",
      +[](PipelineDescriptor* self, Sel, bool value) { self->multiple_of_width = value; });
  plain_class<BinaryArchiveDescriptor>("MTLBinaryArchiveDescriptor");
  method(
      "MTLBinaryArchiveDescriptor",
      "setUrl:", +[](BinaryArchiveDescriptor* self, Sel, Url* url) { self->url = Ref<Url>(url); });
  method("MTLBinaryArchive", "addComputePipelineFunctionsWithDescriptor:error:", add_to_archive);
  method("MTLBinaryArchive", "serializeToURL:error:", write_archive);
}

}  // namespace

void Library::dispose() {
  module.reset();
  DeviceObject::dispose();
}

void Function::dispose() {
  module.reset();
  DeviceObject::dispose();
}

void PipelineDescriptor::dispose() {
  function.reset();
  archives.reset();
  DeviceObject::dispose();
}

void Pipeline::dispose() {
  module.reset();
  DeviceObject::dispose();
}

void install_libraries() {
  install_compile_options();
  install_descriptors();
  method("MTLDevice", "newLibraryWithSource:options:error:", make_library);
  method("MTLDevice", "newBinaryArchiveWithDescriptor:error:", make_archive);
  method(
      "MTLDevice", "newComputePipelineStateWithFunction:error:",
      +[](Device*, Sel, Function* function, Object** error) {
        return make_pipeline(function, 0, error);
      });
  method("MTLDevice",
         "newComputePipelineStateWithDescriptor:options:reflection:error:", pipeline_of_descriptor);
  method("MTLLibrary", "newFunctionWithName:", make_function);
  method(
      "MTLFunction", "name",
      +[](Function* self, Sel) -> Object* { return string_of(self->kernel->name); });
  method(
      "MTLComputePipelineState", "maxTotalThreadsPerThreadgroup",
      +[](Pipeline* self, Sel) { return self->max_threads; });
  method(
      "MTLComputePipelineState", "threadExecutionWidth",
      +[](Pipeline*, Sel) -> UInt { return 32; });
  method(
      "MTLComputePipelineState", "staticThreadgroupMemoryLength",
      +[](Pipeline* self, Sel) -> UInt { return self->kernel->threadgroup_bytes(); });
}

}  // namespace metal_sim
