/** Tests of the client. */
@NullMarked
package dev.sidecall.host;

import org.jspecify.annotations.NullMarked;
