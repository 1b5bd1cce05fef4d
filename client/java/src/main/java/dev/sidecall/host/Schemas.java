package dev.sidecall.host;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.github.victools.jsonschema.generator.FieldScope;
import com.github.victools.jsonschema.generator.Option;
import com.github.victools.jsonschema.generator.OptionPreset;
import com.github.victools.jsonschema.generator.SchemaGenerator;
import com.github.victools.jsonschema.generator.SchemaGeneratorConfigBuilder;
import com.github.victools.jsonschema.generator.SchemaVersion;
import com.github.victools.jsonschema.module.jackson.JacksonModule;
import dev.sidecall.internal.Json;
import org.jspecify.annotations.Nullable;

/** JSON Schemas of records. */
final class Schemas {
  private Schemas() {}

  /** The schema of the arguments that a class holds, as JSON text. */
  static String of(Class<?> type) {
    SchemaGeneratorConfigBuilder config =
        new SchemaGeneratorConfigBuilder(SchemaVersion.DRAFT_2020_12, OptionPreset.PLAIN_JSON)
            .with(new JacksonModule())
            .with(Option.FORBIDDEN_ADDITIONAL_PROPERTIES_BY_DEFAULT)
            .without(Option.SCHEMA_VERSION_INDICATOR);
    config.forFields().withRequiredCheck(field -> !isNullable(field));
    ObjectNode schema = new SchemaGenerator(config.build()).generateSchema(type);
    if (!schema.path("type").asText().equals("object")) {
      throw new IllegalArgumentException(type.getName() + " does not hold the arguments of a tool");
    }
    if (!schema.has("properties")) {
      schema.putObject("properties");
    }
    return Json.write(schema);
  }

  private static boolean isNullable(FieldScope field) {
    return field.getRawMember().getAnnotatedType().isAnnotationPresent(Nullable.class);
  }
}
