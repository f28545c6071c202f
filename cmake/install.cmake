# The installed package: library, public headers, find_package(dlk). glslang's shared libraries are
# installed beside libdlk where they come from a pip package, which may not outlive the build.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS dlk EXPORT dlk-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT dlk
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT dlk
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT dlk)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/core/include/dlk" "${PROJECT_SOURCE_DIR}/core/include/CDlk"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  COMPONENT dlk)
install(EXPORT dlk-targets NAMESPACE dlk:: DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/dlk"
  COMPONENT dlk)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/dlk-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/dlk-config.cmake.in"
  "${PROJECT_BINARY_DIR}/dlk-config.cmake"
  INSTALL_DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/dlk")
install(FILES "${PROJECT_BINARY_DIR}/dlk-config.cmake" "${PROJECT_BINARY_DIR}/dlk-config-version.cmake"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/dlk" COMPONENT dlk)

if(glslang_FOUND AND DLK_CMEEL_PREFIX AND "${glslang_DIR}" MATCHES "cmeel.prefix")
  file(GLOB bundled "${DLK_CMEEL_PREFIX}/lib/libglslang*.so.*" "${DLK_CMEEL_PREFIX}/lib/libSPIRV.so.*"
    "${DLK_CMEEL_PREFIX}/lib/libglslang*.dylib" "${DLK_CMEEL_PREFIX}/lib/libSPIRV*.dylib")
  install(FILES ${bundled} DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT dlk)
endif()
