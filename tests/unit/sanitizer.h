/* Is this build slowed by AddressSanitizer? For tests whose many cases are arithmetic. */
#ifndef MOELAB_TESTS_SANITIZER_H
#define MOELAB_TESTS_SANITIZER_H

#ifdef __has_feature
#define ADDRESS_SANITIZER __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#else
#define ADDRESS_SANITIZER 0
#endif

#endif
