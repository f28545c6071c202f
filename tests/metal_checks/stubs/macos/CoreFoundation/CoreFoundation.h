// Stands in for Apple's header.
#pragma once
#include <math.h>
typedef double CFTimeInterval;
