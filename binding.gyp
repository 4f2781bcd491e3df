# node-gyp only starts our own build (scripts/build.mjs -> cmake-js -> CMake). Its headers are never used: gyp/ is an
# empty "nodedir" (package.json, config.node_gyp_nodedir), so that nothing is downloaded.
{
  "targets": [
    {
      "target_name": "cllm",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": [],
          # The second output never exists, so node-gyp always asks CMake, which knows what is up to date.
          "outputs": ["build/Release/cllm.node", "build/Release/.always"],
          "action": ["node", "scripts/build.mjs"],
        }
      ],
    }
  ]
}
