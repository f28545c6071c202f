# What a wheel holds beside the Python sources: the extension, the shared libraries that it needs
# (found beside it through $ORIGIN) and the parity suite, as dlk._parity.
set_target_properties(_core PROPERTIES INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
if(APPLE)
  set_target_properties(_core PROPERTIES INSTALL_RPATH "@loader_path")
endif()
install(TARGETS _core LIBRARY DESTINATION dlk COMPONENT python)

# Under its SONAME, which is what the loader looks for; symbolic links do not survive a wheel.
function(dlk_bundle target)
  if(NOT TARGET ${target})
    return()
  endif()
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL "SHARED_LIBRARY")
    return()
  endif()
  get_property(file TARGET ${target} PROPERTY LOCATION)
  foreach(configuration RELEASE RELWITHDEBINFO NOCONFIG)
    get_target_property(soname ${target} IMPORTED_SONAME_${configuration})
    if(soname)
      break()
    endif()
  endforeach()
  if(NOT soname)
    set(soname "${file}")
  endif()
  get_filename_component(soname "${soname}" NAME)  # macOS: without its @rpath/
  get_filename_component(file "${file}" REALPATH)
  install(PROGRAMS "${file}" DESTINATION dlk RENAME "${soname}" COMPONENT python)
endfunction()
foreach(target glslang::glslang glslang::SPIRV glslang::glslang-default-resource-limits)
  dlk_bundle(${target})
endforeach()

install(DIRECTORY "${PROJECT_SOURCE_DIR}/tests/parity/" DESTINATION dlk/_parity COMPONENT python
  FILES_MATCHING PATTERN "*.py" PATTERN "*.npz"
  PATTERN "test_*.py" EXCLUDE PATTERN "conftest.py" EXCLUDE PATTERN "__pycache__" EXCLUDE)
