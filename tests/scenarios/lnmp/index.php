<?php
header('Content-Type: text/plain');
echo $_SERVER['SERVER_NAME'], ' by PHP ', PHP_MAJOR_VERSION, "\n";
