/** Tests of the client. */
@NullMarked
package dev.sidecall.chat;

import org.jspecify.annotations.NullMarked;
