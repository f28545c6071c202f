// Stands in for Apple's header: the part of the Objective-C runtime that metal-cpp uses.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
typedef struct objc_selector* SEL;
typedef struct objc_class* Class;
typedef struct objc_object {
  void* isa;
}* id;
typedef signed char BOOL;

SEL sel_registerName(const char* name);
const char* sel_getName(SEL selector);
void* objc_lookUpClass(const char* name);
void* objc_getProtocol(const char* name);
#ifdef __cplusplus
}
#endif
