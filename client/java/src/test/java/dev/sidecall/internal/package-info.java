/** Tests of the client. */
@NullMarked
package dev.sidecall.internal;

import org.jspecify.annotations.NullMarked;
