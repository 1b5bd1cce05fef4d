# frozen_string_literal: true

# A client of Sidecall made of generated stubs alone. docs/writing-a-client.md says how the
# stubs are made and how this is run; it needs a sidecar that serves examples/city_tools.py.

require "json"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "sidecall/v1/tool_service_services_pb"

V1 = Sidecall::V1
StatusCodes = GRPC::Core::StatusCodes

# The details of a google.rpc.Status, be it of an RPC or of one call's result.
module Details
  def self.find(status, kind)
    status&.details&.find { |packed| packed.is(kind) }&.unpack(kind)
  end

  def self.reason(status)
    info = find(status, Google::Rpc::ErrorInfo)
    info&.domain == "sidecall.dev" ? info.reason : ""
  end

  def self.retry_after_s(status)
    delay = find(status, Google::Rpc::RetryInfo)&.retry_delay
    delay && delay.seconds + delay.nanos / 1e9
  end
end

# An RPC ended with a status other than OK. Failures of single calls are no errors: they are
# in the results.
class SidecallError < StandardError
  # Reasons with which a sidecar refuses a request, so that nothing of it was started.
  REJECTIONS = %w[
    APPROVAL_UNKNOWN DEADLINE_EXPIRED DRAINING FEATURE_UNSUPPORTED PAGE_TOKEN_INVALID
    REQUEST_ID_REUSED REQUEST_INVALID REQUEST_MEMORY_FULL STORE_UNAVAILABLE TOOLS_CHANGED
    TOO_MANY_BATCHES
  ].freeze
  # What gRPC says when nothing of the RPC has left this process.
  NOT_CONNECTED = /\A(failed to connect|dns resolution failed|name resolution failure)/i

  attr_reader :code, :reason, :retry_after_s

  def initialize(error)
    status = error.to_rpc_status # nil where no sidecar made the error
    @code = StatusCodes.constants.find { |name| StatusCodes.const_get(name) == error.code }
    @reason = Details.reason(status)
    @retry_after_s = Details.retry_after_s(status)
    @not_connected = status.nil? && @code == :UNAVAILABLE && error.details.match?(NOT_CONNECTED)
    super("#{[@code, *(@reason unless @reason.empty?)].join("/")}: #{error.details}")
  end

  # Whether it is certain that no call was started; false means that calls may have run.
  def not_started?
    @not_connected || REJECTIONS.include?(reason)
  end

  # Whether the same request may succeed a little later.
  def transient?
    @code == :UNAVAILABLE || !@retry_after_s.nil?
  end
end

# A blocking client of one sidecar.
class Client
  MAX_MESSAGE_BYTES = 16 * 1024 * 1024
  RETRIES = 7
  LONGEST_WAIT_S = 5.0

  def initialize(endpoint = ENV.fetch("SIDECALL_ENDPOINT", "127.0.0.1:50071"))
    options = {
      "grpc.max_receive_message_length" => MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length" => MAX_MESSAGE_BYTES,
      "grpc.initial_reconnect_backoff_ms" => 100,
      "grpc.max_reconnect_backoff_ms" => 500,
      "grpc.enable_http_proxy" => 0
    }
    # The socket's path would become the authority, which many servers refuse.
    options["grpc.default_authority"] = "localhost" if endpoint.start_with?("unix:")
    @stub = V1::ToolService::Stub.new(endpoint, :this_channel_is_insecure, channel_args: options)
  end

  def list_tools(timeout_s: 10)
    tools = []
    token = ""
    loop do
      page = invoke(:list_tools, V1::ListToolsRequest.new(page_token: token), timeout_s)
      tools.concat(page.tools.to_a)
      token = page.next_page_token
      return tools if token.empty?
    rescue SidecallError => e
      raise unless e.reason == "TOOLS_CHANGED" && !token.empty?

      tools.clear
      token = ""
    end
  end

  # Runs the calls of one turn; returns one result per call, in call order.
  def execute_batch(calls, timeout_s: 60, **fields)
    request = V1::ExecuteBatchRequest.new(calls: calls, **fields)
    invoke(:execute_batch, request, timeout_s).results.to_a
  end

  private

  # Sends a request, and sends it again where that certainly runs no call twice.
  def invoke(rpc, request, timeout_s)
    deadline = Time.now + timeout_s
    backoff_s = 0.1
    (0..RETRIES).each do |attempt|
      return @stub.public_send(rpc, request, deadline: deadline)
    rescue GRPC::BadStatus => e
      error = SidecallError.new(e)
      pause_s = rand(backoff_s / 2..backoff_s) + (error.retry_after_s || 0)
      raise error unless error.not_started? && error.transient? && attempt < RETRIES
      raise error if (error.retry_after_s || 0) > LONGEST_WAIT_S || Time.now + pause_s > deadline

      sleep(pause_s)
      backoff_s = [backoff_s * 2, 2.0].min
    end
  end
end

def call(name, arguments)
  V1::ToolCall.new(name: name, arguments: JSON.generate(arguments))
end

client = Client.new

client.list_tools.each do |tool|
  properties = JSON.parse(tool.input_schema).fetch("properties", {})
  puts "#{tool.name}(#{properties.keys.join(", ")}) #{tool.effects.to_s.delete_prefix("EFFECTS_")}"
end

turn = [
  call("find_contact", { name: "Ben" }),
  call("get_weather", { location: "$ref:@1#/city" }),
  call("get_weather", { location: "Atlantis" }),
  call("send_postcard", { to: "Ann", text: "It is ${ref:@3#/temperature} degrees there." }),
  call("get_news", { topic: "science", count: "many" })
]
client.execute_batch(turn).each do |result|
  reason = Details.reason(result.status)
  state = result.execution_state.to_s.delete_prefix("EXECUTION_STATE_")
  puts "#{result.name}: #{reason.empty? ? "OK" : reason} #{state} #{result.content}"
end

begin
  client.execute_batch(turn, max_concurrency: -1)
rescue SidecallError => e
  puts "refused: #{e.message}; #{e.not_started? ? "nothing was started" : "calls may have run"}"
end
