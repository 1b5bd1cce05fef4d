package dev.sidecall.internal;

import com.google.protobuf.ByteString;
import dev.sidecall.v1.Blob;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Binary content: what it is, and how it is written for a provider or a person. */
public final class Blobs {
  /** Media types of images that providers show to a model. */
  public static final List<String> IMAGES =
      List.of("image/png", "image/jpeg", "image/webp", "image/gif");

  /** Media type of PDF files. */
  public static final String PDF = "application/pdf";

  private static final int PDF_HEAD_BYTES = 1024;
  private static final int MAX_NAME_CHARS = 255;
  private static final String OFFICE = "application/vnd.openxmlformats-officedocument";

  private static final Map<String, String> EXTENSIONS =
      Map.ofEntries(
          Map.entry(PDF, ".pdf"),
          Map.entry("application/json", ".json"),
          Map.entry("application/rtf", ".rtf"),
          Map.entry("application/msword", ".doc"),
          Map.entry("application/vnd.ms-excel", ".xls"),
          Map.entry("application/vnd.ms-powerpoint", ".ppt"),
          Map.entry("application/vnd.oasis.opendocument.text", ".odt"),
          Map.entry(OFFICE + ".wordprocessingml.document", ".docx"),
          Map.entry(OFFICE + ".spreadsheetml.sheet", ".xlsx"),
          Map.entry(OFFICE + ".presentationml.presentation", ".pptx"),
          Map.entry("text/plain", ".txt"),
          Map.entry("text/html", ".html"),
          Map.entry("text/css", ".css"),
          Map.entry("text/csv", ".csv"),
          Map.entry("text/markdown", ".md"),
          Map.entry("text/xml", ".xml"));

  private record Signature(int offset, ByteString bytes, String mediaType) {}

  private static final List<Signature> SIGNATURES =
      List.of(
          signature(0, "\u0089PNG\r\n\u001a\n", "image/png"),
          signature(0, "\u00ff\u00d8\u00ff", "image/jpeg"),
          signature(0, "GIF8", "image/gif"),
          signature(8, "WEBP", "image/webp"));

  private Blobs() {}

  /**
   * The line that stands in a text for binary content, for example "[image/png, 3412 bytes:
   * a.png]".
   *
   * @param blob the content
   * @return the line
   */
  public static String line(Blob blob) {
    String line = "[" + blob.getMediaType() + ", " + blob.getData().size() + " bytes";
    return line + (blob.getName().isEmpty() ? "" : ": " + onOneLine(blob.getName())) + "]";
  }

  /**
   * The media type to show bytes as.
   *
   * @param blob the content
   * @return the media type; empty where the bytes are not what they are said to be: a provider that
   *     cannot read one image refuses the whole conversation, from then on
   */
  public static String shownAs(Blob blob) {
    String mediaType = bareMediaType(blob.getMediaType());
    ByteString data = blob.getData();
    if (IMAGES.contains(mediaType)) {
      for (Signature known : SIGNATURES) {
        int end = known.offset() + known.bytes().size();
        if (data.size() >= end && data.substring(known.offset(), end).equals(known.bytes())) {
          return known.mediaType();
        }
      }
      return "";
    }
    if (mediaType.equals(PDF)) {
      ByteString head = data.substring(0, Math.min(PDF_HEAD_BYTES, data.size()));
      return head.toString(StandardCharsets.ISO_8859_1).contains("%PDF-") ? PDF : "";
    }
    return mediaType;
  }

  /**
   * Whether a provider reads it as a document.
   *
   * @param mediaType the media type, without parameters
   * @return whether one does
   */
  public static boolean isDocument(String mediaType) {
    return EXTENSIONS.containsKey(mediaType) || mediaType.startsWith("text/");
  }

  /**
   * A name for a file: the content's own, without folders and control characters.
   *
   * @param name the content's name; may be empty
   * @param mediaType the media type, without parameters
   * @return the name
   */
  public static String fileName(String name, String mediaType) {
    String[] folders = name.replaceAll("[/\\\\]+$", "").split("[/\\\\]", -1);
    String clean = onOneLine(folders[folders.length - 1].replaceAll("\\p{Cc}+", " "));
    int first = clean.codePointCount(0, clean.length()) - MAX_NAME_CHARS;
    clean = first > 0 ? clean.substring(clean.offsetByCodePoints(0, first)) : clean;
    if (clean.isEmpty() || clean.equals(".") || clean.equals("..")) {
      return "file" + EXTENSIONS.getOrDefault(mediaType, "");
    }
    return clean;
  }

  /**
   * The content inside a URL.
   *
   * @param mediaType the media type
   * @param data the bytes
   * @return a data URL
   */
  public static String dataUrl(String mediaType, ByteString data) {
    return "data:"
        + mediaType
        + ";base64,"
        + Base64.getEncoder().encodeToString(data.toByteArray());
  }

  private static String bareMediaType(String mediaType) {
    int parameters = mediaType.indexOf(';');
    String bare = parameters < 0 ? mediaType : mediaType.substring(0, parameters);
    bare = bare.strip().toLowerCase(Locale.ROOT);
    return bare.equals("image/jpg") ? "image/jpeg" : bare;
  }

  private static String onOneLine(String text) {
    return text.strip().replaceAll("(?U)\\s+", " ");
  }

  private static Signature signature(int offset, String bytes, String mediaType) {
    return new Signature(
        offset, ByteString.copyFrom(bytes, StandardCharsets.ISO_8859_1), mediaType);
  }
}
