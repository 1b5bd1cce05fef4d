/** Tests of the client. */
@NullMarked
package dev.sidecall;

import org.jspecify.annotations.NullMarked;
