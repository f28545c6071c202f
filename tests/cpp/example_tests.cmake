# The examples in C and C++, built in the tree and once more, as an application would, against an
# installed dlk. They name the colour of a picture.
if(NOT DLK_BUILD_EXAMPLES)
  add_subdirectory("${PROJECT_SOURCE_DIR}/examples" "${PROJECT_BINARY_DIR}/examples")
endif()
if(DLK_SANITIZE)
  # clang gives programs that it links as C only half of the sanitizer's runtime.
  set_target_properties(classify_c PROPERTIES LINKER_LANGUAGE CXX)
endif()
add_executable(make_example_data "${CMAKE_CURRENT_LIST_DIR}/make_example_data.cpp")
target_link_libraries(make_example_data PRIVATE dlk_objects)
dlk_warnings(make_example_data)
set(example_data "${CMAKE_CURRENT_BINARY_DIR}/example_data")
add_test(NAME example_data COMMAND make_example_data "${example_data}")
set_tests_properties(example_data PROPERTIES FIXTURES_SETUP example_data)

foreach(language c cpp)
  foreach(device opencl vulkan)
    string(TOUPPER ${device} upper)
    if(NOT DLK_ENABLE_${upper})
      continue()
    endif()
    set(name example_${language}_${device})
    add_test(NAME ${name}
      COMMAND classify_${language} "${example_data}/color.dlk" "${example_data}/green.ppm" ${device})
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED example_data
      PASS_REGULAR_EXPRESSION "^0\\.[0-9]+  green\n")
  endforeach()
  # What is wrong is said in one line.
  add_test(NAME example_${language}_wrong
    COMMAND classify_${language} "${example_data}/green.ppm" "${example_data}/green.ppm" null)
  set_tests_properties(example_${language}_wrong PROPERTIES FIXTURES_REQUIRED example_data
    PASS_REGULAR_EXPRESSION "error: .*is no dlk model")
endforeach()

if(NOT DLK_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  add_test(NAME installed_package COMMAND ${CMAKE_COMMAND}
    "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DBUILD=${PROJECT_BINARY_DIR}" "-DDATA=${example_data}"
    "-DWORK=${CMAKE_CURRENT_BINARY_DIR}/installed_package" "-DGENERATOR=${CMAKE_GENERATOR}"
    "-DC_COMPILER=${CMAKE_C_COMPILER}" "-DCXX_COMPILER=${CMAKE_CXX_COMPILER}"
    -P "${CMAKE_CURRENT_LIST_DIR}/installed_package.cmake")
  set_tests_properties(installed_package PROPERTIES FIXTURES_REQUIRED example_data TIMEOUT 300)
endif()
