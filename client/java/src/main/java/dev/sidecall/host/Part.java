package dev.sidecall.host;

import com.google.protobuf.ByteString;
import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.ResultPart;

/**
 * A typed part of what a function returns: images and files beside text. A function returns one, or
 * a list of them.
 */
public final class Part {
  private final ResultPart message;

  private Part(ResultPart message) {
    this.message = message;
  }

  /**
   * Plain text.
   *
   * @param text the text
   * @return the part
   */
  public static Part text(String text) {
    return new Part(ResultPart.newBuilder().setText(Texts.escapeSurrogates(text)).build());
  }

  /**
   * A JSON value.
   *
   * @param value whatever Jackson can write
   * @return the part
   * @throws IllegalArgumentException it cannot be written
   */
  public static Part json(Object value) {
    String text = Texts.escapeSurrogates(Json.write(value));
    return new Part(ResultPart.newBuilder().setJson(text).build());
  }

  /**
   * Binary content.
   *
   * @param mediaType what it is, for example "image/png"
   * @param data the bytes
   * @param name a file name for people and models; may be empty
   * @return the part
   */
  public static Part blob(String mediaType, byte[] data, String name) {
    ResultPart.Builder part = ResultPart.newBuilder();
    part.getBlobBuilder()
        .setMediaType(mediaType)
        .setData(ByteString.copyFrom(data))
        .setName(Texts.escapeSurrogates(name));
    return new Part(part.build());
  }

  /**
   * A reference to content elsewhere. The model gets the address as text; nothing is fetched.
   *
   * @param uri the address
   * @param mediaType what is there; may be empty
   * @param name a name for people and models; may be empty
   * @return the part
   */
  public static Part link(String uri, String mediaType, String name) {
    ResultPart.Builder part = ResultPart.newBuilder();
    part.getLinkBuilder()
        .setUri(Texts.escapeSurrogates(uri))
        .setMediaType(mediaType)
        .setName(Texts.escapeSurrogates(name));
    return new Part(part.build());
  }

  ResultPart message() {
    return message;
  }
}
