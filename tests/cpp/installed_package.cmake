# Installs dlk into an empty folder, moves it, builds the examples with find_package(dlk) against it
# and runs them. Called by ctest as a script.
function(must)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    string(REPLACE ";" " " line "${ARGV}")
    message(FATAL_ERROR "${line}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK}")
must(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${WORK}/first" --component dlk)
file(RENAME "${WORK}/first" "${WORK}/dlk")  # a package must not know where it was installed
must(${CMAKE_COMMAND} -S "${SOURCE}/examples" -B "${WORK}/build" -G "${GENERATOR}"
  "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}"
  "-DCMAKE_PREFIX_PATH=${WORK}/dlk")
must(${CMAKE_COMMAND} --build "${WORK}/build")
foreach(language c cpp)
  must("${WORK}/build/classify_${language}" "${DATA}/color.dlk" "${DATA}/green.ppm")
  if(NOT output MATCHES "^0\\.[0-9]+  green\n")
    message(FATAL_ERROR "classify_${language} printed: ${output}")
  endif()
endforeach()
