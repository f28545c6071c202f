// Stands in for Apple's header: says that the target is macOS 13.
#pragma once
#define TARGET_OS_MAC 1
#define TARGET_OS_OSX 1
#define TARGET_OS_IPHONE 0
#define TARGET_OS_IOS 0
#define TARGET_OS_TV 0
#define TARGET_OS_SIMULATOR 0
#define __MAC_OS_X_VERSION_MIN_REQUIRED 130000
