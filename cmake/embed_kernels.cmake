# Embeds kernels/*.k in the library as one array of {file name, text}: core/kernel/embedded.h.
function(dlk_embed_kernels target folder)
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.k")
  set(output "${PROJECT_BINARY_DIR}/embedded_kernels.cpp")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} "-DSOURCES=${sources}"
            -P "${PROJECT_SOURCE_DIR}/cmake/embed_kernels_script.cmake"
    DEPENDS ${sources} "${PROJECT_SOURCE_DIR}/cmake/embed_kernels_script.cmake"
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()
